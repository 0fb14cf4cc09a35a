"""Placement ``integer``: what is quantized, and what is not."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional

import zeroq
from zeroq.graph.placement import HOLDER
from zeroq.layers import weighted_layers
from zeroq.quantization.convert import activation_quantizers


class Everything(nn.Module):
    """What integer runtimes keep quantized, and what only moves values."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.pool = nn.MaxPool2d(2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.activation = nn.Hardswish()
        self.last = nn.Linear(12, 5)

    def forward(self, images):
        features = self.pool(self.first(images))
        batch, channels, height, width = features.shape
        shuffled = features.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(features.shape)
        one, other = self.activation(self.depthwise(shuffled)).chunk(2, dim=1)
        joined = torch.cat([functional.relu(one + other), features], dim=1)
        return self.last(functional.adaptive_avg_pool2d(joined, 1).flatten(1))


@pytest.fixture
def everything() -> nn.Module:
    torch.manual_seed(0)
    return Everything().eval()


def on_grid(values: torch.Tensor, bits: int) -> bool:
    """Whether a tensor has no more values than a grid of so many bits."""
    return len(values.unique()) <= 2**bits


def test_what_is_quantized(everything):
    quantized = zeroq.quantize(everything, 8, 8, "integer")
    names = [name.removeprefix(f"{HOLDER}.") for name in activation_quantizers(quantized)]
    # The image; the convolution behind its BatchNorm and ReLU6; the other one, and its activation; the sum behind its
    # ReLU; the concatenation; the pool. Not the maximum, what moves channels, sizes, nor the classes' scores.
    assert names == ["images", "first_2", "depthwise", "activation", "relu", "cat", "adaptive_avg_pool2d"]


def test_every_layer_sees_few_values_and_gives_few(everything, images):
    quantized = zeroq.quantize(everything, 8, 3, "integer")
    zeroq.calibrate(quantized, images)
    seen = {}
    for name, layer in weighted_layers(quantized).items():
        layer.register_forward_hook(lambda layer, inputs, output, name=name: seen.__setitem__(name, inputs[0]))
    quantized(images)
    assert seen.keys() == {"first.0", "depthwise", "last"}
    assert all(on_grid(values, 3) for values in seen.values())


def test_weights_are_symmetric_unless_asked(everything):
    zero_points = {
        symmetric: zeroq.quantize(everything, 8, 8, "integer", symmetric=symmetric).depthwise.weight_zero_point
        for symmetric in (None, True, False)
    }
    assert not zero_points[None].any()
    assert not zero_points[True].any()
    assert zero_points[False].any()
    assert zeroq.quantize(everything, 8, 8).depthwise.weight_zero_point.any()


def test_close_to_the_float_network_and_reloads(everything, images):
    quantized = zeroq.quantize(everything, 8, 8, "integer")
    zeroq.calibrate(quantized, images)
    expected = everything(images)
    assert (quantized(images) - expected).abs().max() < 0.05 * expected.abs().max()
    again = zeroq.quantize(everything, 8, 8, "integer")
    again.load_state_dict(quantized.state_dict())
    assert torch.equal(again(images), quantized(images))


def test_shared_layers_and_functions(hand_written, images):
    """A convolution that is called twice has a quantizer behind each call."""
    quantized = zeroq.quantize(hand_written, 8, 8, "integer")
    zeroq.calibrate(quantized, images)
    calls = [node for node in quantized.graph.nodes if node.op == "call_module" and "shared" in str(node.target)]
    assert len(calls) == 6
    layers = set()
    for call in calls:
        (norm,) = call.users
        (relu,) = norm.users
        (quantizer,) = relu.users
        layers.add(quantizer.target)
    assert len(layers) == 6


@pytest.mark.parametrize("activation", [nn.ReLU6, nn.SiLU])
def test_activations_inside_batch_norm(activation, images):
    """A runtime fuses a clamp with the convolution before it, and nothing else."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct2d(8, act_layer=activation), nn.Conv2d(8, 4, 3), nn.ReLU())
    model = nn.Sequential(*block, nn.Conv2d(4, 4, 3)).eval()
    quantized = zeroq.quantize(model, 8, 8, "integer")
    fused = activation is nn.ReLU6
    names = [name.removeprefix(f"{HOLDER}.") for name in activation_quantizers(quantized)]
    assert names == ["input_1", *([] if fused else ["_1"]), "_1_act", "_3"]
    zeroq.calibrate(quantized, images)
    expected = model(images)
    assert (quantized(images) - expected).abs().max() < 0.05 * expected.abs().max()
    assert isinstance(model[1].act, activation)


def test_other_methods(everything, hand_written, images):
    settings = zeroq.Settings(8, 8, mixed=False, placement="integer")
    with pytest.raises(zeroq.ZeroQError, match="no ranges for the sums and pools of placement integer"):
        zeroq.quantize_with_dfq(hand_written, (3, 16, 16), settings)
    result = zeroq.quantize_with_dfq(hand_written, (3, 16, 16), settings, images=images, ranges_from_images=True)
    assert not result.report["unreached_activations"]
    naive = zeroq.quantize_naively(everything, 8, 8, placement="integer")
    assert (naive.model(images) - everything(images)).abs().max() < 0.1


def test_a_network_that_cannot_be_traced(no_norm):
    class Branching(nn.Sequential):
        def forward(self, images):
            return super().forward(images) if images.sum() > 0 else super().forward(-images)

    with pytest.raises(zeroq.ZeroQError, match=r"cannot be traced.*placement integer"):
        zeroq.quantize(Branching(*no_norm), 8, 8, "integer")
