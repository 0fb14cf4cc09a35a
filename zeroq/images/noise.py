"""Images that need neither data nor a network: Gaussian noise, the calibration baseline."""

import torch

from zeroq.images.checks import check_count, check_input_shape


def gaussian_images(input_shape: tuple[int, int, int], count: int = 32, *, seed: int = 0) -> torch.Tensor:
    """N(0, 1) noise in the normalised input space: float32 [count, channels, height, width]."""
    check_input_shape(input_shape)
    check_count(count)
    return torch.randn(count, *input_shape, generator=torch.Generator().manual_seed(seed))
