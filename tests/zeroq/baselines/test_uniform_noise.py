"""Uniform noise: what it is, and that it is nobody's Gaussian noise."""

import pytest
import torch

import zeroq


def test_noise_as_others_draw_it():
    """Pixels of all values from 0 to 255, less their mean, over their variance."""
    images = zeroq.uniform_images((3, 40, 50), 32, seed=4)
    assert images.shape == (32, 3, 40, 50)
    assert images.dtype == torch.float32
    pixels = 5418.75 * images + 127.5
    assert pixels.min() == pytest.approx(0, abs=0.01)
    assert pixels.max() == pytest.approx(255, abs=0.01)
    counts = torch.histc(pixels, 10, 0, 255) / pixels.numel()
    torch.testing.assert_close(counts, torch.full((10,), 0.1), atol=5e-3, rtol=0)
    assert images.std() == pytest.approx(0.0136, abs=1e-4)
    assert torch.equal(images, zeroq.uniform_images((3, 40, 50), 32, seed=4))
    assert not torch.equal(images, zeroq.uniform_images((3, 40, 50), 32, seed=5))


def test_ranges_are_of_the_noise(hand_written):
    settings = {"count": 5, "seed": 2, "mixed": False}
    found = zeroq.zero_shot_quantize(hand_written, (3, 16, 16), 8, 8, method="uniform_noise", **settings)
    assert torch.equal(found.images, zeroq.uniform_images((3, 16, 16), 5, seed=2))
    assert found.model.stem.input_quantizer.scale.item() == pytest.approx(255 / 5418.75 / 255, rel=1e-2)
    gaussian = zeroq.zero_shot_quantize(hand_written, (3, 16, 16), 8, 8, method="gaussian", **settings)
    assert torch.equal(gaussian.images, zeroq.gaussian_images((3, 16, 16), 5, seed=2))
