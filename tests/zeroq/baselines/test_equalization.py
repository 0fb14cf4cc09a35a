"""Cross-layer equalization and bias absorption: what they change, what they keep, and what they leave alone."""

import copy

import pytest
import torch
from timm.layers import Conv2dSame, StdConv2d
from torch import nn
from torch.nn import functional

from tests.networks import assert_equal_outputs, normal_chain, outputs
from zeroq.baselines.equalization import (
    absorb_high_biases,
    equalize,
    input_ranges,
    output_ranges,
    unabsorbed_channels,
    unequal_channels,
)
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.patterns import layer_pairs
from zeroq.graph.tracing import trace


def assert_unchanged(step, graph) -> None:
    before = copy.deepcopy(graph.state_dict())
    after = step(graph).state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


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


class CalledTwice(Chain):
    """One of the first layer's two outputs goes elsewhere."""

    def forward(self, x):
        return super().forward(x).sum() + self.first(x).sum()


class Returned(Chain):
    """What is between the two is an output, too."""

    def forward(self, x):
        y = self.first(x)
        return self.second(y).sum() + y.sum()


class Tied(nn.Module):
    """Two layers that share a weight, of which one is part of a chain."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.other.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x)) + self.other(x)


LEFT_ALONE = {
    "sum": Chain(lambda x: functional.relu(x) + x),
    "constant": Chain(lambda x: functional.relu(x) + 1),
    "concatenation": Chain(lambda x: torch.cat([x, x], 1), 8),
    "shuffle": Chain(lambda x: functional.channel_shuffle(x, 2)),
    "reshape": Chain(lambda x: x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)),
    "relu6": Chain(nn.ReLU6()),
    "silu": Chain(nn.SiLU()),
    "sigmoid": Chain(torch.sigmoid),
    "two inputs": Twice(nn.ReLU()),
    "branch": Returned(nn.ReLU()),
    "called twice": CalledTwice(nn.ReLU()),
    "tied": Tied(),
    "linear over width": nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(12, 5)),
    "linear over places": nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2), nn.Linear(144, 5)),
    "pooled tokens": nn.Sequential(nn.Flatten(2), nn.Linear(144, 8), nn.MaxPool1d(2), nn.Linear(4, 4)),
    "convolved tokens": nn.Sequential(nn.Flatten(2), nn.Linear(144, 3), nn.Conv1d(3, 4, 1)),
    "linear over length": nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 1), nn.Linear(144, 8)),
    "pooled across channels": nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 4, 1), nn.MaxPool2d(3, 1, padding=1), nn.Conv1d(4, 4, 1)
    ),
    "transposed": nn.Sequential(
        nn.ConvTranspose2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 4, 1)
    ),
    "standardized": nn.Sequential(nn.Conv2d(3, 4, 1), StdConv2d(4, 4, 1)),
}


@pytest.mark.parametrize("network", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_may_not_be_equalized_is_left_alone(network):
    graph = trace(network.eval())
    assert outputs(graph, torch.randn(2, 3, 12, 12)).isfinite().all()  # a network that works
    assert layer_pairs(graph) == []
    assert_unchanged(equalize, graph)


def test_tokens_are_equalized_through_their_last_axis():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(2), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 5)).eval()
    network[1].weight.data *= torch.logspace(-3, 0, 8).view(-1, 1)
    images = torch.randn(2, 3, 12, 12)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert torch.allclose(output_ranges(graph.get_submodule("1")), input_ranges(graph.get_submodule("3"), 8), rtol=1e-3)


@pytest.mark.parametrize("between", [nn.ReLU(), nn.PReLU(4), nn.MaxPool2d(2), functional.relu, nn.Identity()])
def test_what_scales_is_equalized(between):
    torch.manual_seed(0)
    network = Chain(between).eval()
    network.first.weight.data *= torch.logspace(-3, 0, 4).view(-1, 1, 1, 1)
    network.first.weight.data[1] *= 1e-10  # dead channels keep their scale
    network.second.weight.data[:, 2] *= 1e-10
    images = torch.randn(2, 3, 12, 12)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    ranges, alive = output_ranges(graph.first), torch.tensor([0, 3])
    assert torch.allclose(ranges[alive], input_ranges(graph.second, 4)[alive], rtol=1e-3)
    assert torch.equal(graph.second.weight[:, 1:3], network.second.weight[:, 1:3])
    assert unequal_channels(graph, layer_pairs(graph)) == 2


def test_a_layer_that_sees_a_flattened_map_is_equalized():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    network[0].weight.data *= torch.logspace(-3, 0, 4).view(-1, 1, 1, 1)
    images = torch.randn(2, 3, 8, 8)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert torch.allclose(output_ranges(graph.get_submodule("0")), input_ranges(graph.get_submodule("3"), 4), rtol=1e-3)


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


def behind_relu(*modules: nn.Module) -> nn.Sequential:
    """``normal_chain`` with other modules behind its ReLU."""
    return nn.Sequential(*normal_chain(nn.ReLU())[:3], *modules).eval()


def test_absorption_is_exact_behind_pooling_and_flattening():
    torch.manual_seed(0)
    network = behind_relu(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 5))
    images = torch.randn(2, 4, 8, 8).clamp(-3, 3)
    graph = fold_batch_norms(trace(network))
    bias = graph.get_submodule("5").bias.clone()
    graph = absorb_high_biases(graph)
    assert not torch.allclose(graph.get_submodule("5").bias, bias)
    assert_equal_outputs(graph, images, outputs(network, images))


@pytest.mark.parametrize(
    ("network", "unabsorbed"),
    [
        (normal_chain(nn.ReLU(), padding=1), 2),
        (behind_relu(Conv2dSame(4, 4, 3)), 2),  # pads, though its padding says 0
        (behind_relu(nn.AvgPool2d(3, 1, padding=1), nn.Conv2d(4, 4, 1)), 2),
        (normal_chain(nn.Identity()), 0),
        (normal_chain(nn.LeakyReLU()), 0),
    ],
    ids=["padding", "own padding", "padded pooling", "no relu", "leaky relu"],
)
def test_absorption_leaves_what_is_not_exact_alone(network, unabsorbed):
    graph = fold_batch_norms(trace(network))
    assert_unchanged(absorb_high_biases, graph)
    assert unabsorbed_channels(graph, layer_pairs(graph)) == unabsorbed


def test_statistics_follow_the_scales():
    network = normal_chain(nn.ReLU())
    images = torch.randn(8, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    graph = equalize(fold_batch_norms(trace(network)))
    layer = graph.get_submodule("0")
    with torch.no_grad():
        found = layer(images)
    assert torch.allclose(found.mean((0, 2, 3)) / layer.output_mean, torch.ones(4), atol=0.02)
    assert torch.allclose(found.std((0, 2, 3)) / layer.output_std, torch.ones(4), atol=0.02)
    assert layer.output_std.max() / layer.output_std.min() != pytest.approx(3 / 0.7)  # as it was before
