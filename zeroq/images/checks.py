"""What calibration images must satisfy before a network sees them."""

from collections.abc import Sequence

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.networks.state import model_device, model_dtype


def check_images(images: torch.Tensor) -> None:
    """Raise ZeroQError unless ``images`` is a finite float tensor [N ≥ 1, C, H, W]."""
    if not isinstance(images, torch.Tensor) or images.dim() != 4 or len(images) == 0:
        found = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
        raise ZeroQError(f"images must be one float tensor [count, channels, height, width], not {found}")
    if not images.is_floating_point():
        raise ZeroQError(f"images must be float, in the network's normalised input space, not {images.dtype}")
    if not images.isfinite().all():
        raise ZeroQError("the images hold NaN or infinite values; distil or draw them again")


def check_input_shape(input_shape: tuple[int, int, int]) -> None:
    """Raise ZeroQError unless ``input_shape`` is three positive integers."""
    is_shape = isinstance(input_shape, Sequence) and len(input_shape) == 3
    if not is_shape or any(not isinstance(side, int) or side < 1 for side in input_shape):
        raise ZeroQError(f"the input shape must be (channels, height, width), three whole numbers, not {input_shape}")


def check_count(count: int) -> None:
    """Raise ZeroQError for fewer than one image."""
    if not isinstance(count, int) or count < 1:
        raise ZeroQError(f"count must be at least 1, a whole number, not {count}")


def forward(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The network's output, on its own device and in its own floating-point type.

    Raises ZeroQError where the network does not accept images of this shape, or wants more than images.
    """
    try:
        return model(images.to(model_device(model), model_dtype(model)))
    except (RuntimeError, TypeError) as error:
        # Out of memory is a RuntimeError too, and has nothing to do with the shape.
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).splitlines()[0]
        raise ZeroQError(
            f"the network does not accept images of shape {tuple(images.shape[1:])}: {reason}; "
            f"give images as (channels, height, width) of its input"
        ) from error
