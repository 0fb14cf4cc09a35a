"""NNCF's quantization, where requirements-tools.txt is installed."""

from importlib import import_module

import pytest
import torch
from torch import nn

pytest.importorskip("nncf")


@pytest.mark.parametrize(("options", "reach"), [({}, 0.1), ({"per_channel_activations": False}, 1.0)])
def test_ranges_in_front_of_depthwise_convolutions(options, reach):
    """A channel that calibration hardly excites is cut off at its own range, unless it shares one with the others."""
    with_nncf = import_module("experiments.tools.with_nncf")
    depthwise = nn.Sequential(nn.Conv2d(2, 2, 1, groups=2, bias=False), nn.ReLU()).eval()
    nn.init.ones_(depthwise[0].weight)
    quiet = torch.tensor([1.0, 0.1]).view(1, 2, 1, 1) * torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    quantized = with_nncf.quantize(depthwise, quiet.repeat(4, 1, 1, 1), **options)
    assert quantized(torch.ones(1, 2, 8, 8))[0, :, 0, 0].tolist() == pytest.approx([1.0, reach], rel=0.05)
