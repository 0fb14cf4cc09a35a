"""DFQ on every network that can be traced: what statistics are followed through, and what they do not tell."""

import copy

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional

import zeroq
from tests.networks import estimate_statistics, outputs
from zeroq.baselines.dfq import Steps, steps_without_statistics
from zeroq.baselines.propagation import activation_moments
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import convert
from zeroq.settings import Settings
from zeroq.zero_shot import quantize_with_dfq


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


@pytest.mark.parametrize(
    ("activation", "placement"),
    [(each, "layer_inputs") for each in (nn.ReLU, nn.ReLU6, nn.SiLU)]
    + [(each, "after_relu") for each in (nn.ReLU, nn.ReLU6)],
)
def test_batch_norm_with_an_activation_behind_no_layer(activation, placement):
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
