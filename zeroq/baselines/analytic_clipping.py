"""Where to clip an activation, from its distribution: Laplace or normal (Banner et al. 2019, section 3)."""

import math
from collections.abc import Callable
from functools import cache

import torch

# The larger the mean absolute deviation is of the standard one, the less a sample is Laplace's (0.707) and the more
# normal (0.798). Here both are as likely: ln 2b + 1 = ½ ln 2πσ² + ½.
EQUALLY_LIKELY = math.sqrt(math.pi / (2 * math.e))
BISECTIONS = 80
FARTHEST = 64.0  # in units of the distribution's own width


@cache
def laplace_clipping(bits: int) -> float:
    """α / b of least expected squared error for Laplace(0, b), cut to ±α with 2ᵏ values.

    2 b² e^(−α/b) + α² / (3 · 4ᵏ): what is cut off, and a step's uniform rounding error.
    """
    return _root(lambda alpha: alpha / (3 * 4**bits) - math.exp(-alpha))


@cache
def normal_clipping(bits: int) -> float:
    """α / σ of least expected squared error for N(0, σ²), cut to ±α with 2ᵏ values.

    (α² + σ²) erfc(α / √2σ) − √(2/π) α σ e^(−α²/2σ²) + α² / (3 · 4ᵏ).
    """

    def slope(alpha: float) -> float:  # half the derivative
        density = math.sqrt(2 / math.pi) * math.exp(-(alpha**2) / 2)
        return alpha * math.erfc(alpha / math.sqrt(2)) - density + alpha / (3 * 4**bits)

    return _root(slope)


def analytic_range(values: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ends between which ACIQ quantizes an activation, of any shape; never beyond its smallest and largest value.

    α on both sides of the mean, by the more likely of the two distributions. What has no negative value is taken for
    the positive half of one around 0, as behind a ReLU: its grid from 0 to α has the steps of one with twice as many
    values from −α to α.
    """
    values = values.float()
    low, high = values.aminmax()
    rectified = bool(low >= 0)
    center = torch.zeros_like(low) if rectified else values.mean()
    halves = 2 if rectified else 1  # the half that was cut off had the same moments
    absolute = halves * (values - center).abs().mean()
    standard = (halves * (values - center).square().mean()).sqrt()
    bits = bits + 1 if rectified else bits
    if absolute < EQUALLY_LIKELY * standard:
        alpha = laplace_clipping(bits) * absolute
    else:
        alpha = normal_clipping(bits) * standard
    return torch.maximum(low.clamp_max(0), center - alpha), torch.minimum(high, center + alpha)


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that is below 0 at 0 crosses it."""
    low, high = 0.0, FARTHEST
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
