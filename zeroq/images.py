"""Calibration images: what they must satisfy before a network sees them, and noise, which needs no network."""

from collections.abc import Sequence

import torch

from zeroq.errors import ZeroQError

MOST_IMAGES = 100_000
# The published code draws pixels from 0…255, subtracts their mean and divides by their variance (not by their standard
# deviation): uniform noise of standard deviation 0.0136.
UNIFORM_LIMIT = 127.5 / (255**2 / 12)
# The smallest and the largest normalised pixel of each channel.
Limits = tuple[Sequence[float], Sequence[float]]


def check_images(images: torch.Tensor) -> None:
    """Raise ZeroQError unless ``images`` is a finite float tensor [N ≥ 1, C, H, W]."""
    if not isinstance(images, torch.Tensor) or images.dim() != 4 or len(images) == 0:
        found = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
        raise ZeroQError(f"images must be one float tensor [count, channels, height, width], not {found}")
    if not images.is_floating_point():
        raise ZeroQError(f"images must be float, in the network's normalised input space, not {images.dtype}")
    if not images.isfinite().all():
        raise ZeroQError("the images hold NaN or infinite values; distil or draw them again")


def check_input_shape(input_shape: Sequence[int] | None) -> None:
    """Raise ZeroQError unless ``input_shape`` is three positive integers."""
    is_shape = isinstance(input_shape, Sequence) and len(input_shape) == 3
    if not is_shape or any(not isinstance(side, int) or side < 1 for side in input_shape or ()):
        raise ZeroQError(f"the input shape must be (channels, height, width), three whole numbers, not {input_shape}")


def check_count(count: int) -> None:
    """Raise ZeroQError for fewer than one image, and for more than anybody calibrates with."""
    if not isinstance(count, int) or not 1 <= count <= MOST_IMAGES:
        raise ZeroQError(f"count must be at least 1 and at most {MOST_IMAGES:,}, a whole number, not {count}")


def shape_of(images: torch.Tensor) -> tuple[int, int, int]:
    """(channels, height, width) of images [N, C, H, W], in pixels."""
    _, channels, height, width = images.shape
    return channels, height, width


def check_limits(limits: Limits | None, images: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Limits as tensors that broadcast over images; raises ZeroQError unless each channel has a range."""
    if limits is None:
        return None, None
    channels = images.shape[1]
    try:
        lowest, highest = (torch.as_tensor(values).to(images).reshape(channels, 1, 1) for values in limits)
        ordered = bool((lowest < highest).all())
    except (TypeError, ValueError, RuntimeError):
        ordered = False
    if not ordered:
        raise ZeroQError(
            f"limits must be two sequences, the smallest and the largest pixel of each of the {channels} channels, "
            f"not {limits}"
        )
    return lowest, highest


def evenly_spread(images: torch.Tensor, count: int) -> torch.Tensor:
    """At most ``count`` of the images, the first and the last among them: a caller's may be in some order."""
    return images[torch.linspace(0, len(images) - 1, min(count, len(images))).round().long()]


def gaussian_images(input_shape: tuple[int, int, int], count: int = 32, *, seed: int = 0) -> torch.Tensor:
    """N(0, 1) noise in the normalised input space: float32 [count, channels, height, width]."""
    check_input_shape(input_shape)
    check_count(count)
    return torch.randn(count, *input_shape, generator=torch.Generator().manual_seed(seed))


def uniform_images(input_shape: tuple[int, int, int], count: int = 32, *, seed: int = 0) -> torch.Tensor:
    """Uniform noise of mean 0 and standard deviation 0.0136 in the normalised input space, as ``gaussian_images``.

    What the published code starts distillation from, and what others' tables call random data.
    """
    check_input_shape(input_shape)
    check_count(count)
    generator = torch.Generator().manual_seed(seed)
    return UNIFORM_LIMIT * (2 * torch.rand(count, *input_shape, generator=generator) - 1)
