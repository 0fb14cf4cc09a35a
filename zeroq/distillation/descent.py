"""The way down that the published recipes share: Adam on the images, with gradients by automatic differentiation."""

from collections.abc import Callable
from math import inf

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zeroq.distillation.batch_norm import Recorded, Statistics, batch_norm_inputs
from zeroq.distillation.recipe import check_finite, check_loss, check_settings
from zeroq.images import Limits, check_input_shape, check_limits, uniform_images
from zeroq.modules import evaluating, forward, model_device, without_weight_gradients


def descend(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    count: int,
    iterations: int,
    *,
    loss_of: Callable[[torch.Tensor, Recorded, Statistics], torch.Tensor],
    statistics: Statistics,
    seed: int,
    learning_rate: float,
    patience: int | None,
    smallest_learning_rate: float = 0.0,
    enough: float = -inf,
    limits: Limits | None,
    on_iteration: Callable[[int, float], None],
) -> torch.Tensor:
    """Distil images as ``zeroq.distill`` does, from small uniform noise on, by any loss.

    ``loss_of`` has the images, and BatchNorm layers with what they saw of them. The step down from a loss of at most
    ``enough`` is the last. With a ``patience`` of None the learning rate stays. The rest, what is returned, and the
    errors are those of ``zeroq.distill``.
    """
    check_input_shape(input_shape)
    check_settings(count, statistics, iterations, learning_rate)
    images = uniform_images(input_shape, count, seed=seed).to(model_device(model)).requires_grad_()
    lowest, highest = check_limits(limits, images)
    optimizer = torch.optim.Adam([images], lr=learning_rate)
    schedule = ReduceLROnPlateau(
        optimizer, patience=iterations if patience is None else patience, min_lr=smallest_learning_rate
    )
    with (
        evaluating(model),
        without_weight_gradients(model),
        batch_norm_inputs(model) as recorded,
        torch.enable_grad(),
    ):
        for iteration in range(iterations):
            recorded.clear()
            forward(model, images)
            loss = loss_of(images, recorded, statistics)
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
            if value <= enough:
                break
    images = images.detach()
    check_finite(images, learning_rate)
    return images
