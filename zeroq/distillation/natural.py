"""Distilled data that BatchNorm statistics and the spectrum of natural images agree on."""

from collections.abc import Callable

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.distillation.batch_norm import Statistics
from zeroq.distillation.fast import FARTHEST_PIXEL, MOMENTUM, Losses
from zeroq.distillation.matching import StatisticsMatching
from zeroq.distillation.recipe import Recipe, check_finite, check_settings
from zeroq.distillation.spectrum import NaturalSpectrum
from zeroq.images import Limits, check_input_shape, check_limits
from zeroq.modules import model_device


@borrows
def distill_natural(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    count: int = 16,
    iterations: int = 20,
    *,
    seed: int = 0,
    statistics: Statistics = "image",
    learning_rate: float = 0.1,
    limits: Limits | None = None,
    on_iteration: Callable[[int, float], None] = lambda iteration, loss: None,
) -> torch.Tensor:
    """Distil images as ``distill_fast`` does, but from noise with the spectrum of natural images, and within it.

    Two things differ, and both are for roundings that go by second moments of a layer's inputs. Adam moves the white
    noise that ``NaturalSpectrum`` makes images of, so that what BatchNorm statistics leave open stays as in natural
    images. And each channel's distance counts relative to its recorded variance (``StatisticsMatching``), where Eq. 3
    goes by whichever layer has the largest features. Losses are those relative ones. Arguments, result and errors are
    those of ``distill_fast``.
    """
    check_input_shape(input_shape)
    check_settings(count, statistics, iterations, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, *input_shape, generator=generator).to(model_device(model))
    if limits is None:
        limits = [-FARTHEST_PIXEL] * noise.shape[1], [FARTHEST_PIXEL] * noise.shape[1]
    lowest, highest = check_limits(limits, noise)
    optimizer = torch.optim.Adam([noise], lr=learning_rate, betas=MOMENTUM)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda iteration: 1 - iteration / iterations)
    spectrum = NaturalSpectrum(input_shape, noise.device)
    with torch.no_grad():
        unlimited = spectrum(noise)
        images = unlimited.clamp(lowest, highest)
        matching = StatisticsMatching(model, images, statistics, relative=True)
        losses = Losses(iterations, learning_rate, on_iteration)
        for _ in range(iterations):
            loss, gradient = matching.loss_and_gradient(images)
            # A pixel beyond its limit may come back, but not go further.
            outwards = (unlimited - images) * gradient < 0
            noise.grad = spectrum(gradient.masked_fill(outwards, 0))
            optimizer.step()
            schedule.step()
            unlimited = spectrum(noise)
            images = unlimited.clamp(lowest, highest)
            losses.add(loss)
    check_finite(images, learning_rate)
    return images


RECIPE = Recipe("natural", distill_natural, iterations=20, learning_rate=0.1, anneals=True, count=16, halves=True)
