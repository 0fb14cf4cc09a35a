"""DFQ: its steps leave the float network as it was, equalize what they may, and correct what rounding shifts."""

import copy
from pathlib import Path

import pytest
import torch
from pytorchcv.model_provider import get_model
from torch import nn
from torch.nn import functional
from torchvision.models.detection import retinanet_resnet50_fpn

import zeroq
from tests.networks import HandWritten, estimate_statistics
from zeroq.baselines.clipped_normal import clipped_normal_moments
from zeroq.baselines.dfq import Steps, prepared
from zeroq.baselines.equalization import (
    absorb_high_biases,
    equalizable_pairs,
    equalize,
    input_ranges,
    output_ranges,
)
from zeroq.baselines.folding import fold_batch_norms, replace_relu6
from zeroq.baselines.graph import layer_pairs, trace
from zeroq.baselines.moments import activation_moments
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.evaluation.classification import evaluate
from zeroq.images.batch_norm import batch_norms
from zeroq.networks import zoo
from zeroq.networks.imagenet import CHECKPOINTS
from zeroq.networks.retinanet import RawRetinaNet
from zeroq.pipeline import Settings, quantize_with_dfq
from zeroq.quantization.bias_correction import mean_outputs
from zeroq.quantization.convert import activation_quantizers
from zeroq.quantization.layers import weighted_layers

DATA = Path(__file__).parents[1] / "data"


def outputs(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = network(images)
    if isinstance(found, dict):
        return torch.cat([found[key].flatten() for key in ("cls_logits", "bbox_regression")])
    return found


def assert_equal_outputs(network: nn.Module, images: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.allclose(outputs(network, images), expected, rtol=0, atol=1e-4 * max(1, expected.abs().max().item()))


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


@pytest.mark.parametrize("networks", [zoo_networks, paper_networks])
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
        pairs = equalizable_pairs(graph)
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


def test_relu6_is_replaced_where_nothing_saturates():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1), nn.Hardtanh(0, 6), Clamped(nn.Conv2d(4, 4, 1))]
    network = nn.Sequential(*layers)
    images = torch.rand(2, 3, 8, 8)
    graph = replace_relu6(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert outputs(graph, 1000 * images).max() > 6 >= outputs(network, 1000 * images).max()


class Clamped(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        x = functional.relu6(self.layer(x))
        return torch.clamp(x.clamp(0, 6), min=0, max=6)


class Chain(nn.Module):
    """Two convolutions with something in between."""

    def __init__(self, between, inputs: int = 4):
        super().__init__()
        self.first, self.second, self.between = nn.Conv2d(3, 4, 3), nn.Conv2d(inputs, 2, 3), between

    def forward(self, x):
        return self.second(self.between(self.first(x)))


class Twice(Chain):
    """The second layer sees something else, too."""

    def forward(self, x):
        return super().forward(x) + self.second(torch.cat([x, x[:, :1]], 1)[..., 1:-1, 1:-1])


class Returned(Chain):
    """What is between the two is an output, too."""

    def forward(self, x):
        y = self.first(x)
        return self.second(y).sum() + y.sum()


@pytest.mark.parametrize(
    "network",
    [
        Chain(lambda x: functional.relu(x) + x),
        Chain(lambda x: functional.relu(x) + 1),
        Chain(lambda x: torch.cat([x, x], 1), 8),
        Chain(lambda x: functional.channel_shuffle(x, 2)),
        Chain(lambda x: x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)),
        Chain(nn.ReLU6()),
        Chain(nn.SiLU()),
        Chain(torch.sigmoid),
        Twice(nn.ReLU()),
        Returned(nn.ReLU()),
    ],
    ids=["sum", "constant", "concatenation", "shuffle", "reshape", "relu6", "silu", "sigmoid", "two inputs", "branch"],
)
def test_what_may_not_be_equalized_is_left_alone(network):
    graph = trace(network.eval())
    before = copy.deepcopy(graph.state_dict())
    assert layer_pairs(graph) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in equalize(graph).state_dict().items())


@pytest.mark.parametrize("between", [nn.ReLU(), nn.PReLU(4), nn.MaxPool2d(2), functional.relu, nn.Identity()])
def test_what_scales_is_equalized(between):
    torch.manual_seed(0)
    network = Chain(between).eval()
    network.first.weight.data *= torch.logspace(-3, 0, 4).view(-1, 1, 1, 1)
    network.first.weight.data[1] = 0  # a dead channel keeps its scale
    images = torch.randn(2, 3, 12, 12)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    ranges, alive = output_ranges(graph.first), torch.tensor([0, 2, 3])
    assert torch.allclose(ranges[alive], input_ranges(graph.second, 4)[alive], rtol=1e-3)
    assert torch.equal(graph.second.weight[:, 1], network.second.weight[:, 1])


def test_a_layer_that_sees_a_flattened_map_is_equalized():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    network[0].weight.data *= torch.logspace(-3, 0, 4).view(-1, 1, 1, 1)
    images = torch.randn(2, 3, 8, 8)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert torch.allclose(output_ranges(graph.get_submodule("0")), input_ranges(graph.get_submodule("3"), 4), rtol=1e-3)


def normal_chain(activation: nn.Module, groups: int = 1, padding: int = 0) -> nn.Sequential:
    """A network whose BatchNorm output is N(β, γ²) in each channel for images that are white noise."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 4, 1, bias=False)
    convolution.weight.data = torch.eye(4)[..., None, None]
    norm = nn.BatchNorm2d(4, eps=0)
    norm.bias.data = torch.tensor([-1.0, 0.5, 5.0, 20.0])
    norm.weight.data = torch.tensor([1.0, -2.0, 0.7, 3.0])
    second = nn.Conv2d(4, 8, 3, groups=groups, padding=padding)
    return nn.Sequential(convolution, norm, activation, second).eval()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_absorption_is_exact_where_its_condition_holds(groups):
    network = normal_chain(nn.ReLU(), groups)
    images = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)  # nothing below β - 3γ
    graph = fold_batch_norms(trace(network))
    first, bias = graph.get_submodule("0"), graph.get_submodule("0").bias.clone()
    graph = absorb_high_biases(graph)
    assert_equal_outputs(graph, images, outputs(network, images))
    assert torch.allclose(bias - first.bias, torch.tensor([0, 0, 5 - 2.1, 20 - 9]), atol=1e-5)
    assert torch.allclose(first.output_mean, torch.tensor([-1, 0.5, 2.1, 9]), atol=1e-5)


@pytest.mark.parametrize("network", [normal_chain(nn.ReLU(), padding=1), normal_chain(nn.Identity())])
def test_absorption_leaves_padded_and_linear_chains_alone(network):
    graph = fold_batch_norms(trace(network))
    before = copy.deepcopy(graph.state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in absorb_high_biases(graph).state_dict().items())


@pytest.mark.parametrize(("low", "high"), [(0, torch.inf), (0, 6), (-torch.inf, torch.inf), (-1, 1)])
def test_clipped_normal_moments_agree_with_monte_carlo(low, high):
    mean, std = torch.tensor([-3.0, 0, 0.5, 4, 7, 2]), torch.tensor([1.0, 2, 0.3, 3, 1, 0])
    samples = mean + std * torch.randn(1_000_000, 6, generator=torch.Generator().manual_seed(0))
    clipped = samples.clamp(low, high).double()
    found_mean, found_std = clipped_normal_moments(mean, std, low, high)
    assert torch.allclose(found_mean.double(), clipped.mean(0), atol=0.01)
    assert torch.allclose(found_std.double(), clipped.std(0), atol=0.01)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Identity()])
def test_analytic_bias_correction_agrees_with_monte_carlo(activation):
    network = normal_chain(activation)
    images = torch.randn(16, 4, 128, 128, generator=torch.Generator().manual_seed(1))
    plan = {"0": 32, "3": 3}
    shifts = {}
    for correction in ("none", "analytic"):
        settings = Settings(plan, 32, mixed=False, per_channel=False, bias_correction=correction)
        result = quantize_with_dfq(network, (4, 128, 128), settings, Steps(False, False, False))
        shifts[correction] = (outputs(result.model, images) - outputs(network, images)).mean((0, 2, 3))
    assert shifts["none"].abs().max() > 0.5  # rounding shifts the mean
    assert shifts["analytic"].abs().max() < 0.02 * shifts["none"].abs().max()


def test_ranges_are_six_deviations_of_batch_norm_and_the_image_s_limits():
    network = normal_chain(nn.ReLU())
    limits = ([-2.0] * 4, [2.5] * 4)
    inputs, outputs_of_relu = activation_moments(fold_batch_norms(trace(network)), (4, 8, 8), limits)
    (image,), (second,) = inputs["0"], inputs["3"]
    assert (image.low.min().item(), image.high.max().item()) == (-2, 2.5)
    assert (second.low.min().item(), second.high.max().item()) == pytest.approx((0, 20 + 6 * 3))
    assert second.mean.mean((0, 2, 3))[1] == pytest.approx(clipped_normal_moments(*torch.tensor([0.5, 2]), 0)[0])
    assert outputs_of_relu["2"][0].high.max() == second.high.max()


def test_sums_and_layers_without_statistics_take_inputs_as_independent():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.last(self.one(x[:, :3]) + self.two(x[:, 3:]))

    torch.manual_seed(0)
    network = Sum().eval()
    inputs, _ = activation_moments(trace(network), (6, 4, 4))
    samples = torch.randn(200, 6, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        summed = network.one(samples[:, :3]) + network.two(samples[:, 3:])
    (found,) = inputs["last"]
    assert torch.allclose(found.mean[0, :, 0, 0], summed.mean((0, 2, 3)), atol=0.01)
    assert torch.allclose(found.std[0, :, 0, 0], summed.std((0, 2, 3)), atol=0.01)


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
    assert dfq.report["unreached_activations"] == dfq.report["skipped_steps"] == []


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu"])
@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_every_activation_gets_a_range(architecture, placement):
    network = zoo.load(architecture)
    settings = Settings(8, 8, mixed=False, placement=placement, bias_correction="analytic")
    result = quantize_with_dfq(network.module, network.input.shape, settings, limits=network.input.limits)
    assert result.report["unreached_activations"] == []
    assert all(quantizer.calibrated for quantizer in activation_quantizers(result.model).values())
    assert result.plan.keys() == weighted_layers(network.module).keys()


@pytest.mark.parametrize("mixed", [False, True])
def test_ranges_and_sensitivities_from_images(mixed):
    network = zoo.load("mobilenetv2")
    images = torch.randn(4, *network.input.shape, generator=torch.Generator().manual_seed(0))
    settings = Settings(4, 8, mixed=mixed, bias_correction="empirical")
    result = quantize_with_dfq(network.module, network.input.shape, settings, images=images, ranges_from_images=True)
    assert len(result.sensitivity) == len(result.plan) == 54
    wanted = mean_outputs(prepared(network.module, Steps()), images)
    for name, (found,) in mean_outputs(result.model, images).items():
        assert torch.allclose(found, wanted[name][0], atol=0.01), name


def test_empirical_correction_of_shared_layers_and_those_without_bias(hand_written, images):
    wanted, distances = mean_outputs(hand_written, images), {}
    for correction in ("none", "empirical"):
        settings = Settings(3, 8, mixed=False, bias_correction=correction)
        result = zeroq.quantize_with_images(hand_written, images, settings)
        found = mean_outputs(result.model, images)
        distances[correction] = {
            name: (torch.stack(found[name]).mean(0) - torch.stack(wanted[name]).mean(0)).abs().max() for name in wanted
        }
    assert distances["empirical"]["head"] < 1e-4
    # A layer that feeds itself cannot be corrected exactly.
    for name in ("blocks.0.shared", "blocks.1.shared"):
        assert distances["empirical"][name] < distances["none"][name]
    again = zeroq.quantize(HandWritten(), 8, 8)
    again.load_state_dict(result.model.state_dict())
    assert torch.equal(again(images), result.model(images))


class Loop(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), Loop())
    sentence = r"Loop '1' stops at .*test_dfq\.py:\d+, `return x if x\.sum\(\) > 0 else -x`.*zeroq needs no tracing"
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        trace(network)


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
        (Settings(8, 8, mixed=False, bias_correction="empirical"), {}, "need images"),
        (Settings(8, 8, mixed=False), {"ranges_from_images": True}, "need images"),
        (Settings(8, 8, mixed=False, bias_correction="magic"), {}, "bias_correction must be one of"),
    ]:
        with pytest.raises(zeroq.ZeroQError, match=sentence):
            quantize_with_dfq(no_norm, (3, 8, 8), settings, **named)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 4, 1))
    with pytest.raises(zeroq.ZeroQError, match=r"cannot tell what Sigmoid .*take the ranges from images"):
        quantize_with_dfq(network, (3, 8, 8), Settings(8, 8, mixed=False))
