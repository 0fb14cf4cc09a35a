"""ReLU in place of ReLU6: equal where nothing saturates, and only behind layers."""

import torch
from torch import nn
from torch.nn import functional

from tests.networks import assert_equal_outputs, outputs
from zeroq.baselines.relu6 import replace_relu6
from zeroq.graph.tracing import trace


def test_relu6_is_replaced_where_nothing_saturates():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1), nn.Hardtanh(0, 6), Clamped(nn.Conv2d(4, 4, 1))]
    network = nn.Sequential(*layers)
    images = torch.rand(2, 3, 8, 8)
    graph = replace_relu6(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert outputs(graph, 1000 * images).max() > 6 >= outputs(network, 1000 * images).max()


def test_replaced_relu6_works_in_place_where_it_did():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)])
            self.module = nn.ReLU6(inplace=True)

        def forward(self, x):
            x = self.layers[0](x)
            self.module(x)
            x = self.layers[1](x)
            x.clamp_(0, 6)
            x = self.layers[2](x)
            functional.relu6(x, True)
            return x

    torch.manual_seed(0)
    network, images = InPlace().eval(), torch.randn(2, 3, 8, 8)
    graph = replace_relu6(trace(network))
    assert sum(node.target is functional.relu for node in graph.graph.nodes) == 2
    assert isinstance(graph.module, nn.ReLU)
    assert_equal_outputs(graph, images, outputs(network, images))


def test_relu6_that_no_layer_feeds_stays():
    class HardSwish(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.module = nn.Conv2d(3, 4, 1), nn.ReLU6()

        def forward(self, x):
            x = self.layer(x)
            return x * functional.relu6(x + 3) / 6 + self.module(x + 3)

    network, images = HardSwish().eval(), 10 * torch.randn(2, 3, 8, 8)
    assert_equal_outputs(replace_relu6(trace(network)), images, outputs(network, images))


class Clamped(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        x = functional.relu6(self.layer(x))
        return torch.clamp(x.clamp(0, 6), min=0, max=6)
