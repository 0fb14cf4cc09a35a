"""Cross-layer equalization: what they change, what they keep, and what they leave alone."""

import pytest
import torch
from timm.layers import StdConv2d
from torch import nn
from torch.nn import functional

from tests.networks import assert_equal_outputs, normal_chain, outputs
from tests.zeroq.baselines.networks import assert_unchanged
from zeroq.baselines.equalization import equalize, input_ranges, output_ranges, unequal_channels
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.patterns import layer_pairs
from zeroq.graph.tracing import trace


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


@pytest.mark.parametrize(
    "between",
    [
        *(nn.ReLU(), nn.PReLU(4), nn.LeakyReLU(0.2), nn.MaxPool2d(2), functional.relu, nn.Identity(), torch.clone),
        *(
            lambda x: torch.prelu(x, torch.tensor([0.1, -0.5, 2.0, 0.3])),
            functional.leaky_relu,
            torch.abs,
            lambda x: -x,
        ),
    ],
)
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


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool1d(4), nn.AdaptiveMaxPool1d(4), nn.AvgPool1d(2)])
def test_pools_of_one_dimension_are_equalized(pool):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 1), nn.PReLU(4), pool, nn.Conv1d(4, 5, 1)).eval()
    network[1].weight.data *= torch.logspace(-3, 0, 4).view(-1, 1, 1)
    images = torch.randn(2, 3, 8, 8)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert torch.allclose(output_ranges(graph.get_submodule("1")), input_ranges(graph.get_submodule("4"), 4), rtol=1e-3)


def test_a_layer_that_sees_a_flattened_map_is_equalized():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    network[0].weight.data *= torch.logspace(-3, 0, 4).view(-1, 1, 1, 1)
    images = torch.randn(2, 3, 8, 8)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert torch.allclose(output_ranges(graph.get_submodule("0")), input_ranges(graph.get_submodule("3"), 4), rtol=1e-3)


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
