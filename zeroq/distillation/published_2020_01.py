"""The recipe of the published code before February 2020, with which the first reported results were made."""

from collections.abc import Callable

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.distillation.batch_norm import Recorded, Statistics, layers_to_match, squared_distances
from zeroq.distillation.descent import descend
from zeroq.distillation.published import PUBLISHED_EPS
from zeroq.distillation.recipe import Recipe
from zeroq.images import Limits

# The loss, for each BatchNorm layer and one more for the images, that is low enough.
ENOUGH = 5.0


def loss_by_channels(
    images: torch.Tensor, recorded: Recorded, statistics: Statistics = "image", *, eps: float = PUBLISHED_EPS
) -> torch.Tensor:
    """Eq. 3 with each layer's distance divided by its channels instead of by the images.

    That of the images themselves is averaged over the images. So the more images there are, the less these count.
    """
    own, *layers = squared_distances(images, recorded, statistics, eps=eps)
    return own.sum() / (len(images) if statistics == "image" else 1) + sum(
        squares.sum() / squares.shape[-1] for squares in layers
    )


@borrows
def distill_2020_01(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    count: int = 32,
    iterations: int = 500,
    *,
    seed: int = 0,
    statistics: Statistics = "image",
    learning_rate: float = 0.1,
    limits: Limits | None = None,
    on_iteration: Callable[[int, float], None] = lambda iteration, loss: None,
) -> torch.Tensor:
    """Distil images as ``distill`` does, with a learning rate of 0.1, by ``loss_by_channels``.

    It ends once that loss is at most 5 · (BatchNorm layers + 1), after ``iterations`` at the latest. Arguments, result
    and errors are those of ``distill``.
    """
    return descend(
        *(model, input_shape, count, iterations),
        loss_of=loss_by_channels,
        statistics=statistics,
        seed=seed,
        learning_rate=learning_rate,
        patience=100,
        smallest_learning_rate=1e-4,
        enough=ENOUGH * (len(layers_to_match(model)) + 1),
        limits=limits,
        on_iteration=on_iteration,
    )


RECIPE = Recipe("published_2020_01", distill_2020_01, iterations=500, learning_rate=0.1)
