"""Distilled data: images optimised until a network's BatchNorm statistics recognise them (Eq. 3)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.distillation.batch_norm import Statistics, statistics_loss
from zeroq.distillation.descent import descend
from zeroq.distillation.recipe import Recipe
from zeroq.images import Limits

# Under every root of the published code, whatever a layer's own.
PUBLISHED_EPS = 1e-6


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
    eps: float | None = None,
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
        eps: what is added to every variance before its root; None: each layer's own, and nothing to the images'.
            The published code adds 1e-6 to all (``published_2020_02``).
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
    return descend(
        *(model, input_shape, count, iterations),
        loss_of=partial(statistics_loss, eps=eps),
        statistics=statistics,
        seed=seed,
        learning_rate=learning_rate,
        patience=patience,
        smallest_learning_rate=smallest_learning_rate,
        limits=limits,
        on_iteration=on_iteration,
    )


RECIPE = Recipe("published", distill, iterations=500)
