"""The distance between the statistics that BatchNorm layers recorded and those of given images (Eq. 3)."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.errors import ZeroQError
from zeroq.images import check_images
from zeroq.modules import RecordedBatchNorm, batch_norms, evaluating, first_argument, forward, model_device

Statistics = Literal["image", "batch"]

# (BatchNorm layer, its input) of one forward pass, in order of execution.
Recorded = Sequence[tuple[RecordedBatchNorm, torch.Tensor]]

# Keeps the gradient of the square root finite where a channel is constant and eps is 0.
SMALLEST_VARIANCE = 1e-12


def layers_to_match(model: nn.Module) -> dict[str, RecordedBatchNorm]:
    """``batch_norms``; raises ZeroQError where the network has none."""
    layers = batch_norms(model)
    if not layers:
        raise ZeroQError(
            "the network has no BatchNorm layer with recorded statistics, so there is nothing to distil from; "
            "calibrate with gaussian or real images instead"
        )
    return layers


@contextmanager
def batch_norm_inputs(model: nn.Module) -> Iterator[list[tuple[RecordedBatchNorm, torch.Tensor]]]:
    """Record (BatchNorm layer, its input) in execution order during forward passes.

    The hooks sit on the BatchNorm layers themselves, so no layer is ever paired with another's input.
    Empty the list between passes. Raises ZeroQError where the network has no BatchNorm.
    """
    layers = layers_to_match(model)
    recorded: list[tuple[RecordedBatchNorm, torch.Tensor]] = []

    def record(layer: RecordedBatchNorm, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        recorded.append((layer, first_argument(inputs, named)))

    with ExitStack() as hooks:
        for layer in layers.values():
            hooks.enter_context(layer.register_forward_pre_hook(record, with_kwargs=True))
        yield recorded


def by_image(features: torch.Tensor, images: int) -> torch.Tensor:
    """Features as [images, channels, places…], as all but those of BatchNorm1d mostly are.

    A layer over tokens sees [images · tokens, channels]; one over vectors [images, channels], one place each. Raises
    ZeroQError where the rows cannot be divided.
    """
    if len(features) == images and features.dim() > 2:
        return features
    if len(features) % images:
        raise ZeroQError(
            f"a BatchNorm layer's input of shape {tuple(features.shape)} cannot be divided among {images} images"
        )
    return features.unflatten(0, (images, -1)).transpose(1, 2)


def statistics_loss(
    images: torch.Tensor, recorded: Recorded, statistics: Statistics, *, eps: float | None = None
) -> torch.Tensor:
    """Eq. 3 for one forward pass: a scalar that is 0 where every mean and standard deviation matches.

    ``images`` [N, C, H, W] themselves should have mean 0 and standard deviation 1 in each channel.
    ``statistics="image"``: each image matches on its own, and the loss is averaged over the images (the
    published code's reading). ``statistics="batch"``: the images match together. ``eps`` as in ``squared_distances``.
    Raises ZeroQError where a layer's input does not have the same number of places for each image.
    """
    matched = len(images) if statistics == "image" else 1
    terms = (squares.sum() / matched for squares in squared_distances(images, recorded, statistics, eps=eps))
    return sum(terms, torch.zeros((), device=images.device))


def squared_distances(
    images: torch.Tensor, recorded: Recorded, statistics: Statistics, *, eps: float | None = None
) -> Iterator[torch.Tensor]:
    """(μ̃ − μ)² + (σ̃ − σ)² of each channel, of the images first and then of each layer's input.

    Each is [N, channels] where every image matches on its own, else [channels]. ``eps`` is added to all variances; with
    None each layer's own is, and nothing to those of the images.
    """
    ones = torch.ones(images.shape[1], device=images.device)
    yield _squares(images, 0 * ones, ones, eps=eps or 0.0, statistics=statistics)
    for layer, features in recorded:
        added = layer.eps if eps is None else eps
        target_std = (layer.running_var + added).sqrt()
        features = by_image(features, len(images))
        yield _squares(features, layer.running_mean, target_std, eps=added, statistics=statistics)


@borrows
def batch_norm_loss(model: nn.Module, images: torch.Tensor, *, statistics: Statistics = "image") -> float:
    """``statistics_loss`` of given images, for example to compare distilled with Gaussian ones.

    Raises ZeroQError for images that the network does not accept, and for a network without BatchNorm.
    """
    check_images(images)
    check_statistics(statistics)
    with evaluating(model), torch.no_grad(), batch_norm_inputs(model) as recorded:
        forward(model, images)
        return statistics_loss(images.to(model_device(model)), recorded, statistics).item()


def check_statistics(statistics: str) -> None:
    """Raise ZeroQError for a reading that does not exist."""
    if statistics not in get_args(Statistics):
        raise ZeroQError(f"statistics must be one of {', '.join(get_args(Statistics))}, not {statistics!r}")


def _squares(
    features: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, *, eps: float, statistics: Statistics
) -> torch.Tensor:
    """(μ̃ − μ)² + (σ̃ − σ)² of [N, C, …]: [N, C] for single images, else [C]."""
    places = tuple(range(2, features.dim()))
    axes = places if statistics == "image" else (0, *places)
    values = features.numel() // (features.shape[1] * (features.shape[0] if statistics == "image" else 1))
    # One value a channel (a 1 × 1 map) has a mean, but no unbiased variance.
    if values == 1:
        return (features.mean(axes) - mean).square()
    variance, average = torch.var_mean(features, axes, correction=1)
    deviation = (variance.clamp_min(SMALLEST_VARIANCE) + eps).sqrt()
    return (average - mean).square() + (deviation - std).square()
