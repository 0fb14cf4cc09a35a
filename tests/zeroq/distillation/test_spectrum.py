"""Noise with the spectrum of natural images, against numpy and the definition of a symmetric map."""

import numpy
import pytest
import torch

from zeroq.distillation.spectrum import CORRELATION, FALL, NaturalSpectrum

SHAPES = [(3, 64, 64), (1, 9, 14), (4, 15, 8), (3, 1, 1), (3, 1, 7)]


def noise(count: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def test_variances_and_correlations():
    images = NaturalSpectrum((3, 32, 32), torch.device("cpu"))(noise(500, (3, 32, 32)))
    found = torch.cov(images.transpose(0, 1).flatten(1))
    torch.testing.assert_close(found.diagonal(), torch.ones(3), rtol=0.1, atol=0)
    correlations = torch.corrcoef(images.transpose(0, 1).flatten(1))
    assert (correlations[~torch.eye(3, dtype=bool)] - CORRELATION).abs().max() < 0.02


def test_power_falls_with_frequency():
    images = NaturalSpectrum((1, 64, 64), torch.device("cpu"))(noise(200, (1, 64, 64)))
    power = (numpy.abs(numpy.fft.fft2(images.double().numpy())) ** 2).mean((0, 1))
    frequencies = numpy.fft.fftfreq(64)
    distances = numpy.hypot(frequencies[:, None], frequencies)
    measured = (distances > 0) & (distances < 0.5)
    slope, _ = numpy.polyfit(numpy.log(distances[measured]), numpy.log(power[measured]), 1)
    assert slope == pytest.approx(-2 * FALL, abs=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_symmetric(shape):
    spectrum = NaturalSpectrum(shape, torch.device("cpu"))
    one, other = noise(2, shape), noise(2, shape, seed=1)
    assert spectrum(one).shape == one.shape
    assert (spectrum(one) * other).sum().item() == pytest.approx((one * spectrum(other)).sum().item(), abs=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_takes_a_derivative_by_images_to_that_by_noise(shape):
    spectrum = NaturalSpectrum(shape, torch.device("cpu"))
    leaf, derivative = noise(2, shape).requires_grad_(), noise(2, shape, seed=1)
    spectrum(leaf).backward(derivative)
    torch.testing.assert_close(spectrum(derivative), leaf.grad, rtol=1e-3, atol=1e-4)
