"""Distilled data: images optimised until a network's BatchNorm statistics recognise them (Eq. 3)."""

from collections.abc import Callable

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.distillation.batch_norm import Statistics, batch_norm_inputs, statistics_loss
from zeroq.distillation.recipe import Recipe, check_finite, check_loss, check_settings
from zeroq.images import Limits, check_input_shape, check_limits
from zeroq.modules import evaluating, forward, model_device, without_weight_gradients

# The published code draws pixels from 0…255, subtracts their mean and divides by their variance (not by
# their standard deviation): uniform noise of standard deviation 0.0136.
INITIAL_LIMIT = 127.5 / (255**2 / 12)


@borrows
def distill(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    count: int = 32,
    iterations: int = 500,
    *,
    seed: int = 0,
    statistics: Statistics = "image",
    learning_rate: float = 0.5,
    patience: int = 100,
    smallest_learning_rate: float = 1e-4,
    limits: Limits | None = None,
    on_iteration: Callable[[int, float], None] = lambda iteration, loss: None,
) -> torch.Tensor:
    """Distil images from the statistics that a trained network's BatchNorm layers recorded.

    The defaults are the published recipe: Adam, 500 iterations, a learning rate of 0.5 that falls to a
    tenth after ``patience`` iterations without progress. The network is left as it came, and its
    weights take no gradients.

    Args:
        model: a trained network, in any mode, on any device.
        input_shape: (channels, height, width) in pixels.
        count: how many images.
        iterations: optimiser steps; all images are optimised together.
        seed: same seed, same device, same images, bit for bit.
        statistics: ``image`` (each image matches on its own) or ``batch`` (all together).
        limits: the smallest and the largest normalised value of each channel's pixels, which images then keep to
            (projected gradient descent). The published recipe has none, and its pixels leave what any image holds.
        on_iteration: receives (iteration, loss) after each step, for progress bars and records.

    Returns:
        float32 [count, channels, height, width] on the network's device, normalised input space.

    Raises:
        ZeroQError: no BatchNorm in the network, or arguments out of range.
        DistillationDivergedError: the loss became NaN or infinite.

    Source: Cai et al., ZeroQ (CVPR 2020), section 3.1.
    """
    check_input_shape(input_shape)
    check_settings(count, statistics, iterations, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    noise = INITIAL_LIMIT * (2 * torch.rand(count, *input_shape, generator=generator) - 1)
    images = noise.to(model_device(model)).requires_grad_()
    lowest, highest = check_limits(limits, images)
    optimizer = torch.optim.Adam([images], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=patience, min_lr=smallest_learning_rate)
    with (
        evaluating(model),
        without_weight_gradients(model),
        batch_norm_inputs(model) as recorded,
        torch.enable_grad(),
    ):
        for iteration in range(iterations):
            recorded.clear()
            forward(model, images)
            loss = statistics_loss(images, recorded, statistics)
            value = loss.item()
            check_loss(value, iteration, learning_rate)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if lowest is not None:
                with torch.no_grad():
                    images.clamp_(lowest, highest)
            schedule.step(value)
            on_iteration(iteration, value)
    images = images.detach()
    check_finite(images, learning_rate)
    return images


RECIPE = Recipe("published", distill, iterations=500)
