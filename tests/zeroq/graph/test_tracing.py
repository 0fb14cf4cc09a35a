"""Graphs of Python code that asks for sizes, makes modules as it runs, and changes tensors in place."""

import operator

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from zeroq.errors import ZeroQError
from zeroq.graph.operators import in_place
from zeroq.graph.tracing import trace

SHAPE = (4, 6, 7)


class Network(nn.Module):
    """A convolution, and code behind it."""

    def __init__(self, code):
        super().__init__()
        self.layer, self.code = nn.Conv2d(4, 4, 3, padding=1), code
        self.factor = nn.Parameter(torch.full((4, 1, 1), 0.5))
        self.idle = nn.Sequential(StochasticDepth(0.5, "row"), nn.Dropout(0.5), nn.Identity())
        self.layers = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))

    def forward(self, x):
        return self.code(self, self.layer(x))


def added(x, y):
    x += y
    return x


def kept(network, x):
    before = [x]
    x += network.layers[0](x)
    return before[0] * 2


def statement(network, x):
    y = x * 3
    x.add_(y)
    x.mul_(0.5)
    return x + y


def multiplied_sizes(network, x):
    places = 1
    for side in x.shape[2:]:
        places *= side
    return x * places


def sized(network, x):
    assert x.shape[1] == 4
    assert x.ndim == len(x.size()) == 4
    batch, channels, height, width = x.shape
    if height % 2 or width % 2:
        x = functional.pad(x, (0, width % 2, 0, height % 2))
    rows = torch.zeros(x.shape[0], channels, 1, x.size(-1)) + torch.arange(x.shape[3])
    for channel in range(x.shape[1]):
        rows = rows + x[:, channel : channel + 1].mean(2, keepdim=True)
    return (x + rows * network.factor).view(batch, -1)


CODE = {
    "kept": kept,
    "statement": statement,
    "functions": lambda network, x: torch.relu_(functional.relu6(x - 1, inplace=True) + functional.elu(x, 1.0, True)),
    "layers": lambda network, x: network.layers(x) + x,
    "part of layers": lambda network, x: network.layers[:2](x),
    "made": lambda network, x: nn.Softmax(1)(x),
    "operators": lambda network, x: added(x * 1, 2) - added(x / 2, x),
    "idle": lambda network, x: network.idle(x) + x,
    "of one tensor": lambda network, x: x.view(x.size(0), -1).relu_(),
}
SIZED = {"sized": sized, "multiplied sizes": multiplied_sizes}


@pytest.mark.parametrize("name", [*CODE, *SIZED])
def test_a_graph_gives_what_the_network_gives_and_changes_nothing(name):
    torch.manual_seed(0)
    network = Network((CODE | SIZED)[name]).eval()
    graph = trace(network, SHAPE)
    assert not any(in_place(graph, node) for node in graph.graph.nodes)
    for count in (1, 2, 5):
        images = torch.randn(count, *SHAPE)
        before = images.clone()
        assert torch.equal(graph(images), network(images))
        assert torch.equal(images, before)
    assert network.layers[1].inplace  # the caller's own


@pytest.mark.parametrize("name", SIZED)
def test_sizes_need_a_shape(name):
    with pytest.raises(ZeroQError, match=r"cannot be traced: Network stops at .*test_tracing\.py"):
        trace(Network(SIZED[name]))


def test_the_batch_stays_open_where_it_decides_nothing():
    with pytest.raises(ZeroQError, match="cannot be traced"):
        trace(Network(lambda network, x: x * 2 if x.shape[0] > 2 else x), SHAPE)
    with pytest.raises(ZeroQError, match="cannot be traced"):
        trace(Network(lambda network, x: x * 2 if x.sum() > 2 else x), SHAPE)
    with pytest.raises(ZeroQError, match="cannot be traced"):  # how many there are depends on values
        trace(Network(lambda network, x: x * 2 if x[x > 0].shape[0] > 2 else x), SHAPE)


def test_what_does_nothing_is_left_out():
    nodes = trace(Network(CODE["idle"])).graph.nodes
    assert [node.target for node in nodes if node.op.startswith("call")] == ["layer", operator.add]


@pytest.mark.parametrize("part", [lambda x: x[:, :2], lambda x: x.view(-1), lambda x: x.chunk(2, 1)[0], torch.flatten])
def test_a_part_that_is_changed_is_refused_with_its_line(part):
    def code(network, x):
        part(x).mul_(2)
        return x

    with pytest.raises(ZeroQError, match=r"test_tracing\.py\", line \d+, in code changes in place what is a part"):
        trace(Network(code))
    assert trace(Network(lambda network, x: part(x).mul_(2)))  # nobody else sees it
