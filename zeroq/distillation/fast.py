"""Distilled data at a fraction of the published recipe's time: the same loss, another way down."""

from collections.abc import Callable

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.distillation.batch_norm import Statistics
from zeroq.distillation.matching import StatisticsMatching
from zeroq.distillation.recipe import Recipe, check_finite, check_loss, check_settings
from zeroq.images import Limits, check_input_shape, check_limits
from zeroq.modules import model_device

# Noise of this standard deviation is close to any network's images, and its outliers are short.
INITIAL_DEVIATION = 0.3
# A second moment over some ten iterations follows a gradient that shrinks tenfold every fifty.
MOMENTUM = (0.9, 0.9)
# In the standard deviations that Eq. 3 asks of pixels. The few that would go further lower the loss by next to nothing,
# and the image's quantizer would have to reach them.
FARTHEST_PIXEL = 3.0
# Losses are fetched from the device so often, and not at every iteration, where the device would wait.
REPORT_EVERY = 25


@borrows
def distill_fast(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    count: int = 32,
    iterations: int = 200,
    *,
    seed: int = 0,
    statistics: Statistics = "image",
    learning_rate: float = 0.5,
    limits: Limits | None = None,
    on_iteration: Callable[[int, float], None] = lambda iteration, loss: None,
) -> torch.Tensor:
    """Distil images as ``distill`` does, to the same loss in about a fifth of its time.

    Adam forgets its second moments quickly, the learning rate falls evenly to 0, images start as Gaussian noise of
    standard deviation 0.3, and an iteration takes less time (``StatisticsMatching``). Arguments, result and errors are
    those of ``distill``; the images are others, and without ``limits`` their pixels stay between −3 and 3.
    ``on_iteration`` receives all losses in order, 25 at a time.
    """
    check_input_shape(input_shape)
    check_settings(count, statistics, iterations, learning_rate)
    generator = torch.Generator().manual_seed(seed)
    images = INITIAL_DEVIATION * torch.randn(count, *input_shape, generator=generator)
    images = images.to(model_device(model))
    if limits is None:
        limits = [-FARTHEST_PIXEL] * images.shape[1], [FARTHEST_PIXEL] * images.shape[1]
    lowest, highest = check_limits(limits, images)
    optimizer = torch.optim.Adam([images], lr=learning_rate, betas=MOMENTUM)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda iteration: 1 - iteration / iterations)
    with torch.no_grad():
        matching = StatisticsMatching(model, images, statistics)
        losses = Losses(iterations, learning_rate, on_iteration)
        for _ in range(iterations):
            loss, images.grad = matching.loss_and_gradient(images)
            optimizer.step()
            schedule.step()
            images.clamp_(lowest, highest)
            losses.add(loss)
    images.grad = None
    check_finite(images, learning_rate)
    return images


class Losses:
    """Reports losses in order, several at a time, so that a device is not waited for at every iteration."""

    def __init__(self, iterations: int, learning_rate: float, report: Callable[[int, float], None]):
        self._iterations, self._learning_rate, self._report = iterations, learning_rate, report
        self._reported = 0
        self._waiting: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor) -> None:
        """The next iteration's loss, a scalar; raises DistillationDivergedError for one reported that is not finite."""
        self._waiting.append(loss)
        done = self._reported + len(self._waiting)
        if len(self._waiting) < REPORT_EVERY and done < self._iterations:
            return
        for iteration, value in enumerate(torch.stack(self._waiting).tolist(), self._reported):
            check_loss(value, iteration, self._learning_rate)
            self._report(iteration, value)
        self._reported = done
        self._waiting.clear()


RECIPE = Recipe("fast", distill_fast, iterations=200, anneals=True)
