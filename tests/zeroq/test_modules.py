"""A network is borrowed in another layout where it runs so, and comes back with its very own tensors."""

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.modules import channels_last, is_channels_last

SHAPE = (3, 8, 8)


class Flattening(nn.Module):
    """A network whose own code asks for the usual layout, in one way or another."""

    def __init__(self, way: str):
        super().__init__()
        self.way = way
        self.layer, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4 * 36, 5)

    def forward(self, x):
        x = self.norm(self.layer(x)).relu()
        if self.way == "contiguous" and not x.is_contiguous():
            raise ValueError("features must be contiguous")
        if self.way == "asserted":
            assert x.is_contiguous()
        if self.way == "merged":
            n, c, h, w = x.shape
            x = x.view(n * c, h, w).reshape(n, -1)
        return self.head(x.view(len(x), -1) if self.way == "view" else x.flatten(1))


@pytest.fixture(params=["view", "merged", "contiguous", "asserted"])
def flattening(request) -> nn.Module:
    torch.manual_seed(0)
    return estimate_statistics(Flattening(request.param), SHAPE)


@pytest.mark.parametrize("method", ["zeroq", "gaussian", "naive"])
def test_networks_that_ask_for_the_usual_layout_are_quantized(flattening, method):
    images = {"count": 2, "iterations": 2} if method == "zeroq" else {}
    result = zeroq.zero_shot_quantize(flattening, SHAPE, 8, 8, False, method=method, **images)
    assert result.model(torch.randn(4, *SHAPE)).shape == (4, 5)


def test_weights_lie_channels_last_inside_and_are_the_same_tensors_outside():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4))
    before = [each.data_ptr() for each in network.parameters()]
    with channels_last(network, SHAPE):
        assert is_channels_last(network)
        # A depthwise weight is contiguous either way; kernels are chosen by its strides.
        assert network[1].weight.stride() == (9, 1, 3, 1)
    assert not is_channels_last(network)
    assert [each.data_ptr() for each in network.parameters()] == before


def test_a_result_has_the_layout_of_the_network_and_reloads_to_the_same_outputs(hand_written, images):
    for layout in (torch.contiguous_format, torch.channels_last):
        network = hand_written.to(memory_format=layout)
        result = zeroq.zero_shot_quantize(network, (3, 16, 16), 4, 8, count=2, iterations=2)
        assert is_channels_last(result.model) == (layout == torch.channels_last)
        again = zeroq.quantize(network, 8, 8)
        again.load_state_dict(result.model.state_dict())
        with torch.no_grad():
            assert torch.equal(again(images), result.model(images))
