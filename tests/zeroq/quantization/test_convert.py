"""Conversion misses nothing, and a state dict carries everything."""

import io
import pickle

import pytest
import timm
import torch
from torch import nn
from torchvision import models

import zeroq
from tests.networks import SubclassedConv
from zeroq.quantization.affine import quantized_weight
from zeroq.quantization.convert import activation_quantizers, quantizer_places
from zeroq.quantization.layers import QuantizedWeight


def test_every_layer_is_converted_by_identity(hand_written):
    quantized = zeroq.quantize(hand_written, 4, 8)
    layers = [m for m in quantized.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 4  # stem, one shared convolution a block, head
    assert all(isinstance(layer, QuantizedWeight) for layer in layers)
    assert len(activation_quantizers(quantized)) == 4
    assert quantized.again is quantized.blocks[0]


def test_weights_are_those_of_the_grid(hand_written):
    quantized = zeroq.quantize(hand_written, 3, 32)
    for name in ("stem", "blocks.0.shared", "head"):
        expected = quantized_weight(hand_written.get_submodule(name).weight, 3)
        assert torch.equal(quantized.get_submodule(name).weight, expected)
        assert all(len(channel.unique()) <= 8 for channel in expected)


def test_subclass_keeps_its_forward(hand_written, images):
    quantized = zeroq.quantize(hand_written, 8, 32)
    assert isinstance(quantized.stem, SubclassedConv)
    plain = nn.functional.conv2d(images, quantized.stem.weight, quantized.stem.bias, padding=1)
    assert torch.allclose(quantized.stem(images), 2 * plain)


def test_float_bits_change_nothing(hand_written, images):
    assert torch.equal(zeroq.quantize(hand_written, 32, 32)(images), hand_written(images))


def test_forward_is_layer_by_layer_fake_quantization(images):
    """A whole network against quantize–dequantize written out in float64."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 144, 7))
    quantized = zeroq.quantize(network, 8, 8)
    zeroq.calibrate(quantized, images)

    def through(values, bits, axis=None):
        axes = None if axis is None else tuple(range(1, values.dim()))
        low = (values.min() if axes is None else values.amin(axes, keepdim=True)).clamp_max(0)
        high = (values.max() if axes is None else values.amax(axes, keepdim=True)).clamp_min(0)
        scale = (high - low) / (2**bits - 1)
        zero = (-low / scale).round()
        return scale * ((values / scale).round().add(zero).clamp(0, 2**bits - 1) - zero)

    # Ranges come from a pass with quantized weights and float activations.
    first, second, last = (network[i].double() for i in (0, 2, 4))
    for layer in (first, second, last):
        layer.weight.data = through(layer.weight.data, 8, axis=0)
    x = images.double()
    float_inputs = [x, first(x).relu()]
    float_inputs.append(second(float_inputs[1]).flatten(1))

    def on_range_of(values, recorded):
        low, high = recorded.min().clamp_max(0), recorded.max().clamp_min(0)
        scale = (high - low) / 255
        zero = (-low / scale).round()
        return scale * ((values / scale).round().add(zero).clamp(0, 255) - zero)

    hidden = first(on_range_of(x, float_inputs[0])).relu()
    hidden = second(on_range_of(hidden, float_inputs[1])).flatten(1)
    expected = last(on_range_of(hidden, float_inputs[2]))
    error = (quantized(images) - expected).abs().max() / expected.abs().max()
    assert error < 2e-3  # a rounding tie that float32 decides otherwise moves an output by less than this


def relu_network() -> nn.Module:
    """Two convolutions and a linear layer with ReLU modules between them; input (3, 16, 16)."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 12, 5)
    )


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu"])
def test_state_dict_reloads_to_equal_outputs(placement, images):
    quantized = zeroq.quantize(relu_network(), {"0": 8, "2": 3, "5": 4}, 6, placement)
    zeroq.calibrate(quantized, images)
    file = io.BytesIO()
    torch.save(quantized.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    reloaded = zeroq.quantize(relu_network(), 8, 8, placement)
    reloaded.load_state_dict(state)
    assert torch.equal(reloaded(images), quantized(images))
    assert state["2.weight_bits"] == 3
    assert any(name.endswith("quantizer.scale") for name in state)


def test_pickle_and_deepcopy(hand_written, images):
    quantized = zeroq.quantize(hand_written, 4, 8)
    zeroq.calibrate(quantized, images)
    assert torch.equal(pickle.loads(pickle.dumps(quantized))(images), quantized(images))


def test_after_relu_counts_relu_modules(hand_written):
    assert len(activation_quantizers(zeroq.quantize(relu_network(), 8, 8, "after_relu"))) == 2
    with_relu6 = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6())
    assert len(activation_quantizers(zeroq.quantize(with_relu6, 8, 8, "after_relu"))) == 1
    with pytest.raises(zeroq.ZeroQError, match="functional relu"):
        zeroq.quantize(hand_written, 8, 8, "after_relu")


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution_has_its_channels_along_axis_1(groups, images):
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups)
    layer.weight.data *= torch.logspace(-2, 2, 6 // groups).view(1, -1, 1, 1)
    quantized = zeroq.quantize(nn.Sequential(layer), 3, 32)
    for channel in range(6 // groups):
        alone = quantized_weight(layer.weight[:, channel : channel + 1], 3, per_channel=False)
        assert torch.equal(quantized[0].weight[:, channel : channel + 1], alone)
    assert len(quantized[0].weight_scale) == 6 // groups


def test_layers_called_with_keywords(images):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = SubclassedConv(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.second(input=self.first(x=x))

    quantized = zeroq.quantize(Named(), 8, 8)
    zeroq.calibrate(quantized, images)
    assert all(quantizer.calibrated for quantizer in activation_quantizers(quantized).values())
    assert quantized(images).shape == (8, 4, 12, 12)


def test_dynamic_ranges_are_the_batch_s_own(images):
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    dynamic = zeroq.quantize(network, 8, 4, dynamic=True)
    for factor in (1, 10):
        calibrated = zeroq.quantize(network, 8, 4)
        zeroq.calibrate(calibrated, factor * images)
        assert torch.equal(dynamic(factor * images), calibrated(factor * images))


def test_wrong_arguments(hand_written):
    with pytest.raises(zeroq.ZeroQError, match=r"missing \['head'"):
        zeroq.quantize(hand_written, {"stem": 4, "blocks.0.shared": 4, "blocks.1.shared": 4})
    with pytest.raises(zeroq.ZeroQError, match="placement"):
        zeroq.quantize(hand_written, 8, 8, "everywhere")
    with pytest.raises(zeroq.ZeroQError, match="already"):
        zeroq.quantize(zeroq.quantize(hand_written))
    with pytest.raises(zeroq.ZeroQError, match="no Conv or Linear"):
        zeroq.quantize(nn.ReLU())
    damaged = nn.Linear(3, 3)
    damaged.weight.data[0, 0] = float("nan")
    with pytest.raises(zeroq.ZeroQError, match="NaN"):
        zeroq.quantize(nn.Sequential(damaged))


def test_uncalibrated_network_says_so(hand_written, images):
    with pytest.raises(zeroq.ZeroQError, match="calibrate"):
        zeroq.quantize(hand_written)(images)


class Experts(nn.Module):
    """Weights that are mixed at every forward, as timm's CondConv2d does: a parameter that no Conv layer holds."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.experts = nn.Parameter(torch.randn(4, 8, 8, 3, 3))
        self.position = nn.Parameter(torch.zeros(1, 8))

    def forward(self, x):
        return nn.functional.conv2d(self.stem(x) + self.position[..., None, None], self.experts.mean(0)).mean((2, 3))


@pytest.mark.parametrize(
    "build",
    [Experts, models.vit_b_16, lambda: timm.create_model("tf_efficientnet_cc_b0_4e")],
    ids=["own", "vit", "timm"],
)
def test_weights_that_would_stay_float_are_refused(build):
    network = build()
    with pytest.raises(
        zeroq.ZeroQError, match=r"weights outside Conv and Linear layers would stay in float, the largest"
    ):
        zeroq.quantize(network, 4, 8)


def test_small_parameters_may_stay_float():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 100))
    network.register_parameter("position", nn.Parameter(torch.zeros(1, 8)))
    assert isinstance(zeroq.quantize(network, 4, 8)[0], QuantizedWeight)


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu", "integer"])
def test_activations_may_have_widths_of_their_own(placement, images):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)).eval()
    places = {"layer_inputs": ["0", "2", "4"], "after_relu": ["1", "3"]}.get(placement, ["input_1", "_1", "_3"])
    assert list(quantizer_places(zeroq.quantize(network, 32, 8, placement))) == places
    widths = dict(zip(places, (3, 32, 5), strict=False))
    quantized = zeroq.quantize(network, 32, widths, placement)
    found = activation_quantizers(quantized)
    assert [int(each.bits) for each in found.values()] == [bits for bits in widths.values() if bits != 32]
    zeroq.calibrate(quantized, images)
    # Every width is that of a network where all have it: the quantizers see the same floats while they are calibrated.
    for name, quantizer in found.items():
        uniform = zeroq.quantize(network, 32, int(quantizer.bits), placement)
        zeroq.calibrate(uniform, images)
        assert torch.equal(activation_quantizers(uniform)[name].scale, quantizer.scale)
    assert len(quantized(images)[:, 0].unique()) > 100
    again = zeroq.quantize(network, 32, widths | dict.fromkeys(set(places) - {places[1]}, 8), placement)
    again.load_state_dict(quantized.state_dict())
    assert torch.equal(again(images), quantized(images))
    for wrong in ({places[0]: 3}, widths | {"other": 4}):
        with pytest.raises(zeroq.ZeroQError, match="activation_bits must name every activation quantizer once"):
            zeroq.quantize(network, 8, wrong, placement)
    with pytest.raises(zeroq.ZeroQError, match="bits must be 2…8"):
        zeroq.quantize(network, 8, widths | {places[0]: 9}, placement)
