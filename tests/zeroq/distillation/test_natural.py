"""Images within the spectrum of natural ones: that they match, what they keep to, and what their pixels are like."""

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.distillation.matching import StatisticsMatching
from zeroq.distillation.spectrum import NaturalSpectrum
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


def test_pixels_beyond_a_limit_may_come_back_and_go_no_further(hand_written):
    """Step by step as the docstring says, with limits that half of all pixels meet."""
    limits = torch.tensor([-0.4, -0.3, -0.2]).view(3, 1, 1), torch.tensor([0.4, 0.3, 0.2]).view(3, 1, 1)
    spectrum = NaturalSpectrum(SHAPE, torch.device("cpu"))
    noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([noise], lr=0.1, betas=(0.9, 0.9))
    matching, beyond = None, 0
    for iteration in range(8):
        unlimited = spectrum(noise.detach())
        shown = unlimited.clamp(*limits)
        matching = matching or StatisticsMatching(hand_written, shown, "image", relative=True)
        _, gradient = matching.loss_and_gradient(shown)
        # A step goes against the gradient.
        further = ((unlimited > limits[1]) & (gradient < 0)) | ((unlimited < limits[0]) & (gradient > 0))
        beyond += further.sum().item()
        noise.grad = spectrum(gradient.where(~further, 0))
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - iteration / 8)
        optimizer.step()
    assert beyond > 1000
    given = [each.flatten().tolist() for each in limits]
    found = zeroq.distill_natural(hand_written, SHAPE, 2, 8, limits=given)
    torch.testing.assert_close(found, spectrum(noise.detach()).clamp(*limits), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 17, 23), (4, 12, 9)])
def test_other_channels_and_sides(shape):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(shape[0], 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    network = estimate_statistics(layers, shape)
    assert zeroq.distill_natural(network, shape, 3, 4).shape == (3, *shape)
