"""The published code's own recipe for detectors."""

from collections.abc import Callable

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.distillation.batch_norm import Statistics
from zeroq.distillation.descent import descend
from zeroq.distillation.published_2020_01 import loss_by_channels
from zeroq.distillation.recipe import Recipe
from zeroq.images import Limits


@borrows
def distill_for_detection(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    count: int = 1,
    iterations: int = 10,
    *,
    seed: int = 0,
    statistics: Statistics = "image",
    learning_rate: float = 0.1,
    limits: Limits | None = None,
    on_iteration: Callable[[int, float], None] = lambda iteration, loss: None,
) -> torch.Tensor:
    """Distil images as ``distill`` does, in 10 iterations with a learning rate that stays at 0.1.

    The loss is ``loss_by_channels``. Arguments, result and errors are those of ``distill``.
    """
    return descend(
        *(model, input_shape, count, iterations),
        loss_of=loss_by_channels,
        statistics=statistics,
        seed=seed,
        learning_rate=learning_rate,
        patience=None,
        limits=limits,
        on_iteration=on_iteration,
    )


RECIPE = Recipe("published_detection", distill_for_detection, iterations=10, learning_rate=0.1)
