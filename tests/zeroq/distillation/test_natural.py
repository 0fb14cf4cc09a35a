"""Images within the spectrum of natural ones: that they match, what they keep to, and what their pixels are like."""

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.networks import zoo

SHAPE = (3, 16, 16)


def neighbours(images: torch.Tensor) -> float:
    """The correlation of pixels that lie side by side."""
    return torch.corrcoef(torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()]))[0, 1].item()


@pytest.mark.slow
def test_neighbouring_pixels_agree_as_in_natural_images():
    """The fast recipe's do not, though its images satisfy the same layers: what it starts from is white."""
    mobilenet = zoo.load("mobilenetv2")
    given = {"count": 4, "limits": mobilenet.input.limits}
    natural = zeroq.distill_natural(mobilenet.module, mobilenet.input.shape, **given)
    white = zeroq.distill_fast(mobilenet.module, mobilenet.input.shape, **given)
    assert neighbours(natural) > neighbours(white) + 0.2


def test_losses_fall_and_come_in_order(hand_written):
    reported = []
    zeroq.distill_natural(
        *(hand_written, SHAPE, 2, 28), on_iteration=lambda iteration, loss: reported.append((iteration, loss))
    )
    assert [iteration for iteration, _ in reported] == list(range(28))
    assert reported[-1][1] < 0.6 * reported[0][1]


@pytest.mark.parametrize("shape", [(1, 17, 23), (4, 12, 9)])
def test_other_channels_and_sides(shape):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(shape[0], 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    network = estimate_statistics(layers, shape)
    assert zeroq.distill_natural(network, shape, 3, 4).shape == (3, *shape)
