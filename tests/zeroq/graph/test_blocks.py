"""A network as a chain of blocks gives what the network gives, bit for bit, wherever it can be cut."""

import pytest
import timm
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from tests.networks import HandWritten
from zeroq.graph.blocks import Block, blocks, by_image
from zeroq.graph.tracing import trace
from zeroq.layers import weighted_layers
from zeroq.networks.zoo import load

TIMM = ["densenet121", "mobilenetv3_small_050", "regnety_002", "repvgg_a0"]


class InPlace(nn.Module):
    """What works in place on a value that others need, a constant, and an argument with a default."""

    def __init__(self):
        super().__init__()
        self.register_buffer("offset", torch.tensor(0.5))
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)

    def forward(self, images: torch.Tensor, factor: float = 2.0) -> torch.Tensor:
        features = self.first(images).relu_()
        features = self.second(features).add_(features)
        features.mul_(factor)
        return self.last(features.mean((2, 3)) + self.offset)


def chain(network: nn.Module, most: int) -> list[Block]:
    return blocks(trace(network).graph, weighted_layers(network), most=most)


def networks():
    torch.manual_seed(0)
    yield "hand-written", HandWritten().eval(), (3, 32, 32)
    yield "in place", InPlace().eval(), (3, 8, 8)
    for name in TIMM:
        yield name, timm.create_model(name, num_classes=7).eval(), (3, 32, 32)
    detector = load("retinanet")
    yield "retinanet", detector.module.eval(), detector.input.shape


@pytest.mark.parametrize(("network", "shape"), [pytest.param(*rest, id=name) for name, *rest in networks()])
@pytest.mark.parametrize("most", [1, 3])
def test_a_chain_gives_what_the_network_gives(network, shape, most):
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    value = images
    with torch.no_grad():
        for block in chain(network, most):
            before = value.clone()
            given, value = value, block.run(network, value)
            assert torch.equal(given, before)  # whatever works in place
        expected = network(images)
    for one, other in zip(tree_leaves(value), tree_leaves(expected), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_blocks_have_at_most_so_many_layers_where_they_can_be_cut():
    layers = [nn.Conv2d(3, 3, 1) for _ in range(8)]
    network = nn.Sequential(*(nn.Sequential(layer, nn.ReLU()) for layer in layers))
    names = list(weighted_layers(network))
    for most in (1, 2, 3, 8):
        found = [block.layers for block in chain(network, most)]
        assert [name for part in found for name in part] == names
        assert len(found) == -(-8 // most)
        assert max(map(len, found)) == most


def test_a_residual_block_is_not_cut():
    block, *_ = [part for part in chain(timm.create_model("resnet10t").eval(), 1) if "layer2.0.conv1" in part.layers]
    assert block.layers == ("layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.1")


def test_a_chain_by_image_is_not_cut_where_all_images_are_one_list():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 4, 2, stride=2), nn.Linear(4, 2)
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            values = self.stem(images).flatten(2).transpose(1, 2)
            tokens = torch.relu(self.first(values.reshape(-1, 4)))
            tokens = torch.relu(self.second(tokens)).reshape(-1, 16, 4)
            return self.head(tokens.mean(1))

    torch.manual_seed(0)
    network, images = Tokens().eval(), torch.randn(5, 3, 8, 8)
    cut = chain(network, 1)
    assert [block.layers for block in cut] == [("stem",), ("first",), ("second",), ("head",)]
    with torch.no_grad():
        found = by_image(cut, network, images[:1])
        assert [block.layers for block in found] == [("stem", "first", "second"), ("head",)]
        value = images
        for block in found:
            value = block.run(network, value)
            assert len(value) == len(images)
        assert torch.equal(value, network(images))
