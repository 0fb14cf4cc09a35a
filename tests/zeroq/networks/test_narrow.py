"""Narrowed networks keep their topology."""

import pytest
import torch
from torch import nn

from zeroq import ZeroQError
from zeroq.networks.narrow import narrow


def test_channels_are_divided_and_the_rest_stays():
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8, eps=0.01)),
        nn.Conv2d(8, 8, 5, groups=8, padding="same", dilation=2),
        *(nn.Conv2d(8, 16, 1, groups=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 100)),
    )
    narrow(network, 4, in_channels=1, classes=7)
    assert [tuple(p.shape) for p in network[0].parameters()] == [(2, 1, 3, 3)]
    assert (network[0].stride, network[1].num_features, network[1].eps) == ((2, 2), 2, 0.01)
    assert (network[2].groups, network[2].in_channels, network[2].dilation) == (2, 2, (2, 2))
    assert (network[3].groups, network[3].out_channels) == (2, 4)
    assert network(torch.randn(2, 1, 9, 9)).shape == (2, 7)


def test_a_channel_count_that_cannot_be_divided_is_named():
    with pytest.raises(ZeroQError, match="0 has 6 channels, which is no multiple of 4"):
        narrow(nn.Sequential(nn.Conv2d(3, 6, 1), nn.Linear(6, 2)), 4, in_channels=3, classes=2)
