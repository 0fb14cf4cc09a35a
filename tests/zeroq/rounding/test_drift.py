"""Corrections of mean errors, against the formula in numpy, and what they leave alone."""

import copy

import numpy
import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.layers import weighted_layers
from zeroq.quantization.affine import FLOAT_BITS
from zeroq.quantization.convert import convert
from zeroq.rounding.drift import CAUTION, correct_drift

SHAPE = (3, 8, 8)


def calibrated(network: nn.Module, images: torch.Tensor, bits: int = 3) -> nn.Module:
    quantized = convert(network, FLOAT_BITS, bits)
    zeroq.calibrate(quantized, images)
    return quantized


@pytest.fixture
def single() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3)).eval()


@pytest.mark.parametrize("mismatch", [0.0, 0.3])
def test_the_part_is_that_of_the_formula(single, mismatch):
    images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)) ** 6  # most values round down to 0
    quantized = calibrated(single, images, bits=2)
    with torch.no_grad():
        float_, rounded = (net(images).double().numpy() for net in (single, quantized))
    errors = (float_ - rounded).mean((2, 3))
    mean, variance = errors.mean(0), errors.var(0, ddof=1).sum()
    known = max(0, (mean**2).sum() - variance / 6)
    spread = float_.transpose(1, 0, 2, 3).reshape(5, -1).var(1).sum()
    expected = known / (known + variance + CAUTION * mismatch * spread)
    before = single[0].bias.detach().clone()
    parts = correct_drift(quantized, single, images, {"0": mismatch})
    assert parts["0"] == pytest.approx(expected, rel=1e-6)
    assert 0 < expected < 1
    numpy.testing.assert_allclose((quantized[0].bias - before).detach(), expected * mean, rtol=1e-3, atol=1e-6)


def test_images_that_agree_are_believed(single):
    """Copies of one image, with next to no noise, all err alike."""
    image = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    images = image + 1e-6 * torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(2))
    quantized = calibrated(single, images)
    assert correct_drift(quantized, single, images, {"0": 0.0})["0"] > 0.95
    assert (single(images) - quantized(images)).mean((0, 2, 3)).abs().max() < 1e-3


def test_what_images_miss_of_statistics_is_not_believed(hand_written, images):
    parts = [
        correct_drift(
            calibrated(hand_written, images),
            hand_written,
            images,
            dict.fromkeys(weighted_layers(hand_written), mismatch),
        )
        for mismatch in (0.0, 1e4)
    ]
    assert max(parts[0].values()) > 0.05 > max(parts[1].values())


@pytest.mark.parametrize("count", [1, 2])
def test_few_images(hand_written, images, count):
    quantized = calibrated(hand_written, images)
    parts = correct_drift(quantized, hand_written, images[:count], dict.fromkeys(weighted_layers(hand_written), 0.1))
    assert all(0 <= part <= 1 for part in parts.values())
    assert quantized(images).isfinite().all()
    if count == 1:
        assert parts["head"] == 0.0


def test_nothing_to_correct(single):
    """Without an error there is no part of it either: 0, not NaN."""
    images = torch.rand(4, *SHAPE)
    assert correct_drift(convert(single, FLOAT_BITS, FLOAT_BITS), single, images, {"0": 0.0}) == {"0": 0.0}


class Several(nn.Module):
    """A layer that is called twice, tokens behind it, and a Linear layer on vectors."""

    def __init__(self):
        super().__init__()
        self.shared, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.tokens, self.scores = nn.Linear(3, 4), nn.Linear(4, 5)

    def forward(self, images):
        features = self.norm(self.shared(torch.relu(self.shared(images)))).relu()
        return self.scores(self.tokens(features.flatten(2).transpose(1, 2)).mean(1))


def test_layers_called_twice_and_tokens(images):
    torch.manual_seed(0)
    network = estimate_statistics(Several(), (3, 16, 16))
    before, quantized = copy.deepcopy(network), calibrated(network, images)
    parts = correct_drift(quantized, network, images, dict.fromkeys(weighted_layers(network), 0.0))
    assert parts.keys() == {"shared", "tokens", "scores"}
    for one, other in zip(network.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(one, other)
