"""DFQ: its steps leave the float network as it was, equalize what they may, and correct what rounding shifts."""

import copy

import pytest
import torch
from pytorchcv.model_provider import get_model
from torch import nn
from torchvision.models import googlenet
from torchvision.models.detection import retinanet_resnet50_fpn

import zeroq
from tests.networks import assert_equal_outputs, estimate_statistics, outputs
from tests.paths import DATA
from zeroq.baselines.dfq import Steps
from zeroq.baselines.equalization import (
    equalize,
    input_ranges,
    output_ranges,
)
from zeroq.baselines.relu6 import replace_relu6
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.evaluation.classification import evaluate
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.patterns import layer_pairs
from zeroq.graph.tracing import trace
from zeroq.layers import weighted_layers
from zeroq.modules import batch_norms
from zeroq.networks import zoo
from zeroq.networks.detectors import OneStage
from zeroq.networks.pytorchcv_models import CHECKPOINTS
from zeroq.quantization.bias_correction import measured_outputs
from zeroq.quantization.convert import activation_quantizers
from zeroq.settings import Settings
from zeroq.zero_shot import quantize_with_dfq


def zoo_networks():
    for architecture in zoo.ARCHITECTURES:
        network = zoo.load(architecture)
        yield architecture, network.module, network.input.shape


def paper_networks():
    """With random weights and the statistics of noise, in float64: float32's rounding grows in deep random networks."""
    for architecture, name in CHECKPOINTS.items():
        torch.manual_seed(0)
        size = 299 if architecture == "inceptionv3" else 224
        network = get_model(name)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
        network.train()
        with torch.no_grad():
            network(torch.randn(2, 3, size, size))
        yield architecture, network.eval().double(), (3, size, size)


@pytest.mark.parametrize("networks", [zoo_networks, pytest.param(paper_networks, marks=pytest.mark.slow)])
def test_steps_leave_the_float_network_as_it_was(networks):
    for name, network, shape in networks():
        images = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(next(network.parameters()))
        before = copy.deepcopy(network.state_dict())
        graph = fold_batch_norms(trace(network))
        assert not batch_norms(graph), name
        assert_equal_outputs(graph, images, outputs(network, images))
        graph = replace_relu6(graph)
        unclipped = outputs(graph, images)  # of MobileNetV2, which may saturate
        assert not any(isinstance(module, nn.ReLU6) for module in graph.modules())
        graph = equalize(graph)
        assert_equal_outputs(graph, images, unclipped)
        pairs = layer_pairs(graph)
        assert pairs, name
        for pair in pairs:
            first, second = graph.get_submodule(pair.first), graph.get_submodule(pair.second)
            one, other = output_ranges(first), input_ranges(second, len(first.weight))
            both = (one > 0) & (other > 0)
            assert torch.allclose(one[both], other[both], rtol=1e-3), (name, pair)
        assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_retinanet_at_its_real_width():
    torch.manual_seed(0)
    network = OneStage(retinanet_resnet50_fpn(weights=None, weights_backbone=None))
    estimate_statistics(network, (3, 64, 64))
    images = torch.randn(1, 3, 64, 64)
    graph = equalize(fold_batch_norms(trace(network)))
    assert_equal_outputs(graph, images, outputs(network, images))
    pairs = {(pair.first, pair.second) for pair in layer_pairs(graph)}
    # A head's layers are called once for each of five levels.
    assert ("head.classification_head.conv.0.0", "head.classification_head.conv.1.0") in pairs
    assert not any(pair.second == "head.classification_head.conv.0.0" for pair in layer_pairs(graph))


def spread(network: nn.Module) -> nn.Module:
    """MobileNetV2's disease: BatchNorm scales over three decades, with outputs as before where no ReLU6 saturates."""
    network = copy.deepcopy(network)
    random = torch.Generator().manual_seed(0)
    for pair in layer_pairs(replace_relu6(fold_batch_norms(trace(network)))):
        norm = network.get_submodule(pair.first.rpartition(".")[0]).bn
        scale = 10 ** (-3 * torch.rand(len(norm.weight), generator=random))
        norm.weight.data *= scale
        norm.bias.data *= scale
        weight = network.get_submodule(pair.second).weight.data
        weight /= scale.view((-1, 1, 1, 1) if weight.shape[1] == 1 else (1, -1, 1, 1))
    return network


def test_dfq_rescues_a_network_whose_scales_are_spread():
    loaded = zoo.load("mobilenetv2")
    images = FashionMNIST(DATA, loaded.input)
    images.images, images.labels = images.images[:2000], images.labels[:2000]

    def top1(network: nn.Module) -> float:
        return evaluate(network, images.batches()).top1

    ill = spread(loaded.module)
    sample = next(images.batches())[0]
    assert_equal_outputs(ill, sample, outputs(loaded.module, sample))
    float_top1 = top1(ill)
    naive = zeroq.quantize(ill, 8, 8, per_channel=False, dynamic=True)
    assert top1(naive) < 50
    settings = Settings(8, 8, mixed=False, per_channel=False, bias_correction="analytic")
    dfq = quantize_with_dfq(ill, loaded.input.shape, settings, limits=loaded.input.limits)
    assert top1(dfq.model) > float_top1 - 2
    assert dfq.report["quantized_weight_layers"] == dfq.report["quantized_activations"] == 54
    assert dfq.report["unreached_activations"] == []
    assert dfq.report["skipped_steps"] == ["high-bias absorption where padding would make it inexact (channels: 1)"]


def test_what_relu6_keeps_from_being_equalized_is_said():
    network = zoo.load("mobilenetv2")
    steps = Steps(replace_relu6=False)
    report = quantize_with_dfq(network.module, network.input.shape, Settings(8, 8, mixed=False), steps).report
    assert report["skipped_steps"][0] == "cross-layer equalization across ReLU6, for 36 of 38 pairs of layers"


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu"])
@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_every_activation_gets_a_range(architecture, placement):
    network = zoo.load(architecture)
    settings = Settings(8, 8, mixed=False, placement=placement, bias_correction="analytic")
    result = quantize_with_dfq(network.module, network.input.shape, settings, limits=network.input.limits)
    assert result.report["unreached_activations"] == []
    assert all(quantizer.calibrated for quantizer in activation_quantizers(result.model).values())
    assert result.plan.keys() == weighted_layers(network.module).keys()


# Corrected biases move what follows to other steps of the grid; without a grid the correction is exact.
@pytest.mark.parametrize(
    ("mixed", "activation_bits", "distance"), [(False, 8, 0.02), (True, 8, 0.02), (True, 32, 1e-5)]
)
def test_ranges_and_sensitivities_from_images(mixed, activation_bits, distance):
    network = zoo.load("mobilenetv2")
    images = torch.randn(4, *network.input.shape, generator=torch.Generator().manual_seed(0))
    settings = Settings(4, activation_bits, mixed=mixed, bias_correction="empirical")
    result = quantize_with_dfq(network.module, network.input.shape, settings, images=images, ranges_from_images=True)
    assert len(result.sensitivity) == len(result.plan) == 54
    wanted = measured_outputs(Steps()(network.module, network.input.shape), images)
    for name, (found,) in measured_outputs(result.model, images).items():
        assert torch.allclose(found, wanted[name][0], atol=distance), name


class Loop(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), Loop())
    sentence = r"Loop '1' stops at .*test_dfq\.py:\d+, `return x if x\.sum\(\) > 0 else -x`.*needs no tracing"
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        trace(network)


def test_the_line_is_the_network_s_own():
    network = retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    with pytest.raises(zeroq.ZeroQError, match=r"RetinaNet stops at .*retinanet\.py:\d+, `for img in images:`"):
        trace(network)


class Optional(nn.Module):
    """Arguments that a caller may leave out."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))

    def forward(self, x, mask=None, features=False):
        if mask is not None:
            x = x * mask
        return x if features else self.layers(x)


def test_optional_arguments_keep_their_defaults():
    network, images = Optional().eval(), torch.randn(2, 3, 4, 4)
    result = quantize_with_dfq(network, (3, 4, 4), Settings(8, 8, mixed=False))
    assert (outputs(result.model, images) - outputs(network, images)).abs().max() < 0.1


class AskingForType(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = self.layer(x)
        return y.relu() if isinstance(y, torch.Tensor) else y


def test_a_graph_that_is_another_function_is_refused():
    with pytest.raises(zeroq.ZeroQError, match="its graph gives other outputs than the network"):
        quantize_with_dfq(AskingForType(), (3, 8, 8), Settings(8, 8, mixed=False))


def test_without_batch_norm_the_rest_runs(no_norm):
    settings = Settings(8, 8, mixed=False, bias_correction="analytic")
    result = quantize_with_dfq(no_norm, (3, 8, 8), settings)
    skipped = " ".join(result.report["skipped_steps"])
    for step in ("BatchNorm folding", "high-bias absorption", "analytic bias correction"):
        assert step in skipped
    assert "equalization" not in skipped
    assert result.report["unreached_activations"] == []


def test_what_does_not_go_together(no_norm, images):
    for settings, named, sentence in [
        (Settings(4, 8), {}, "no mixed precision"),
        (Settings(8, 8, mixed=False, bias_correction="empirical"), {}, "needs images"),
        (Settings(8, 8, mixed=False), {"ranges_from_images": True}, "needs images"),
        (Settings(8, 8, mixed=False, bias_correction="magic"), {}, "bias_correction must be one of"),
        (Settings(8, 8, mixed=False), {"images": images}, "nothing in method dfq uses images"),
        (Settings(8, 8, mixed=False, percentile=99), {}, "percentile is of ranges from images"),
    ]:
        with pytest.raises(zeroq.ZeroQError, match=sentence):
            quantize_with_dfq(no_norm, (3, 8, 8), settings, **named)
    for shape, sentence in ((64, "three whole numbers"), ((1, 8, 8), r"does not accept images of shape \(1, 8, 8\)")):
        with pytest.raises(zeroq.ZeroQError, match=sentence):
            quantize_with_dfq(no_norm, shape, Settings(8, 8, mixed=False))
    with pytest.raises(zeroq.ZeroQError, match="analytic bias correction are parts of DFQ"):
        zeroq.quantize_with_images(no_norm, images, Settings(8, 8, mixed=False, bias_correction="analytic"))


def test_a_head_that_only_training_uses_is_quantized_like_by_other_methods():
    torch.manual_seed(0)
    network = googlenet(weights=None, init_weights=False, aux_logits=True).eval()
    result = quantize_with_dfq(network, (3, 64, 64), Settings(4, 8, mixed=False))
    assert result.plan.keys() == weighted_layers(network).keys()
    assert result.report["size_mib"] == pytest.approx(result.report["fp32_size_mib"] / 8)
    assert any(name.startswith("aux1") for name in result.report["unreached_activations"])
