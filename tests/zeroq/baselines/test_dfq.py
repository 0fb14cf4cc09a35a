"""DFQ: its steps leave the float network as it was, equalize what they may, and correct what rounding shifts."""

import copy

import pytest
import timm
import torch
from pytorchcv.model_provider import get_model
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional
from torchvision.models import googlenet
from torchvision.models.detection import retinanet_resnet50_fpn

import zeroq
from tests.networks import assert_equal_outputs, estimate_statistics, outputs
from tests.paths import DATA
from zeroq.baselines.dfq import Steps, steps_without_statistics
from zeroq.baselines.equalization import (
    equalize,
    input_ranges,
    output_ranges,
)
from zeroq.baselines.propagation import activation_moments
from zeroq.baselines.relu6 import replace_relu6
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.evaluation.classification import evaluate
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.patterns import layer_pairs
from zeroq.graph.tracing import trace
from zeroq.layers import weighted_layers
from zeroq.modules import batch_norms
from zeroq.networks import zoo
from zeroq.networks.pytorchcv_models import CHECKPOINTS
from zeroq.networks.retinanet import RawRetinaNet
from zeroq.quantization.bias_correction import measured_outputs
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import activation_quantizers, convert
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
    network = RawRetinaNet(retinanet_resnet50_fpn(weights=None, weights_backbone=None))
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


class Between(nn.Module):
    """Two layers and something between them."""

    def __init__(self, between):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.LazyConv2d(4, 1)
        self.between = between
        self.weight = nn.Parameter(torch.tensor([0.5, 2.0, 1.0, -1.0]))

    def forward(self, x):
        return self.second(self.between(self.norm(self.first(x)), self.weight))


def attention(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    scores = (tokens @ tokens.transpose(1, 2)) * 0.5
    return (scores.softmax(-1) @ tokens).transpose(1, 2).reshape_as(x)


FOLLOWED = {
    "product with a number": lambda x, weight: 0.5 * x,
    "product with a parameter": lambda x, weight: x * weight.view(4, 1, 1),
    "quotient": lambda x, weight: x / 3 - 1,
    "leaky relu": lambda x, weight: functional.leaky_relu(x, 0.2),
    "prelu": lambda x, weight: functional.prelu(x, weight),
    "stack": lambda x, weight: torch.stack([x, 2 * x], 1).flatten(1, 2),
    "sum": lambda x, weight: x.sum(1, keepdim=True) + x,
    "index_select": lambda x, weight: torch.index_select(x, 1, torch.tensor([2, 0])),
    "zeros_like": lambda x, weight: torch.cat([x, torch.zeros_like(x)], 1),
    "clone and to": lambda x, weight: x.clone().to(torch.float32),
    "sigmoid": lambda x, weight: x.sigmoid(),
    "silu": lambda x, weight: functional.silu(x),
    "hardswish": lambda x, weight: functional.hardswish(x),
    "gelu": lambda x, weight: functional.gelu(x),
    "layer norm": lambda x, weight: functional.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2),
    "squeeze and excitation": lambda x, weight: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "attention": attention,
    "mish by hand": lambda x, weight: x * functional.softplus(x).tanh(),
}


def normalized(network: nn.Module) -> nn.Module:
    """With weights of BatchNorm that differ, and the statistics that these make of smooth random images."""
    random = torch.Generator().manual_seed(0)
    for norm in network.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.momentum = None
            norm.weight.data = 0.5 + torch.rand(norm.weight.shape, generator=random)
            norm.bias.data = 0.3 * torch.randn(norm.bias.shape, generator=random)
    return network


@pytest.mark.parametrize("between", FOLLOWED.values(), ids=FOLLOWED)
def test_statistics_are_followed_through(between):
    torch.manual_seed(0)
    network, shape = Between(between), (3, 8, 8)
    network(torch.randn(2, *shape))  # how many channels the second layer sees
    estimate_statistics(normalized(network), shape)
    before = copy.deepcopy(network.state_dict())
    result = zeroq.zero_shot_quantize(network, shape, 8, 8, method="dfq")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert result.report["unreached_activations"] == []
    assert not any("noise" in reason or "analytic" in reason for reason in result.report["skipped_steps"])
    images = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1))
    expected = outputs(network, images)
    assert (outputs(result.model, images) - expected).std() < 0.05 * expected.std()


def test_what_statistics_do_not_tell_is_named():
    torch.manual_seed(0)
    network, shape = Between(lambda x, weight: torch.cumsum(x, 1)), (3, 8, 8)
    network(torch.randn(2, *shape))
    estimate_statistics(normalized(network), shape)
    result = zeroq.zero_shot_quantize(network, shape, 8, 8, method="dfq")
    ranges, correction = result.report["skipped_steps"][-2:]
    assert ranges.endswith("behind what has no rule: cumsum (cumsum)")
    assert correction.endswith("is not known: second")
    plain = quantize_with_dfq(network, shape, Settings(8, 8, mixed=False))
    assert torch.equal(plain.model.second.bias, result.model.second.bias)
    assert not torch.equal(plain.model.second.weight, network.second.weight)
    images = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1))
    expected = outputs(network, images)
    assert (outputs(result.model, images) - expected).std() < 0.05 * expected.std()
    graph = Steps()(network, shape)
    assert steps_without_statistics(graph, *activation_moments(graph, shape), "images", "none") == []


class Joined(nn.Module):
    """A BatchNorm with an activation, as timm has it, behind two layers at once."""

    def __init__(self, activation: type[nn.Module]):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.last = BatchNormAct2d(8, act_layer=activation), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.last(self.norm(torch.cat([self.one(x), self.two(x)], 1)))


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.SiLU])
def test_batch_norm_with_an_activation_behind_no_layer(activation, placement):
    if placement == "after_relu" and activation is nn.SiLU:
        pytest.skip("has no ReLU")
    torch.manual_seed(0)
    network, shape = Joined(activation), (3, 8, 8)
    estimate_statistics(normalized(network), shape)
    settings = Settings(8, 8, mixed=False, placement=placement, bias_correction="analytic")
    result = quantize_with_dfq(network, shape, settings)
    assert result.report["unreached_activations"] == []
    assert not any("noise" in reason for reason in result.report["skipped_steps"])
    images = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1))
    expected = outputs(network, images)
    assert (outputs(result.model, images) - expected).std() < 0.05 * expected.std()


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        ("regnety_002", 64),
        ("mobilenetv3_small_050", 64),
        ("convnext_atto", 64),
        pytest.param("levit_128s", 224, marks=pytest.mark.slow),
    ],
)
def test_networks_with_other_activations(architecture, size):
    """Squeeze and excitation, hard swish, GELU and LayerNorm, attention: ranges are where the values are."""
    torch.manual_seed(0)
    network, shape = timm.create_model(architecture, num_classes=7), (3, size, size)
    estimate_statistics(normalized(network), shape)
    coarse = torch.randn(16, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(2))
    images = functional.interpolate(coarse, size, mode="bilinear")
    before = copy.deepcopy(network.state_dict())
    settings = Settings(8, 8, mixed=False, bias_correction="analytic")
    result = quantize_with_dfq(network, shape, settings)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert result.report["unreached_activations"] == []
    assert not any("noise" in reason for reason in result.report["skipped_steps"])
    # Random networks make much of little: as much of it with ranges from these very images.
    graph = Steps()(network, shape)
    by_images = convert(graph, 8, 8)
    calibrate(by_images, images)
    expected = outputs(network, images)
    error, least = ((outputs(each, images) - expected).std() for each in (result.model, by_images))
    assert error < 2 * least
    inputs, seen = activation_moments(graph, shape)[0], {}
    for name in inputs:
        graph.get_submodule(name).register_forward_pre_hook(
            lambda module, given, name=name: seen.update({name: given[0].detach()})
        )
    outputs(graph, images)
    for name, values in seen.items():
        low, high = inputs[name][0].low.min(), inputs[name][0].high.max()
        assert ((values >= low) & (values <= high)).float().mean() > 0.98, name
