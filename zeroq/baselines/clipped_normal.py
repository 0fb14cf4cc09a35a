"""Moments of a normal variable that an activation clips (Nagel et al. 2019, appendix C)."""

import math
from typing import TypeVar

import torch

Value = TypeVar("Value", float, torch.Tensor)


def clipped_normal_moments(
    mean: torch.Tensor, std: torch.Tensor, low: float, high: float = math.inf
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of clip(X, low, high) for X ~ N(mean, std²), element by element.

    Where ``std`` is 0, X is its mean.
    """
    spread = std.double().clamp_min(1e-12)
    mean = mean.double()
    lower, upper = (low - mean) / spread, (high - mean) / spread
    below, above = _cumulative(lower), _cumulative(-upper)
    inside = (1 - below - above).clamp_min(0)
    density_below, density_above = _density(lower), _density(upper)
    # E[Z; lower < Z < upper] and E[Z²; …] of the standard normal Z; a bound at infinity adds nothing.
    first = density_below - density_above
    second = inside + _finite(lower) * density_below - _finite(upper) * density_above
    average = mean * inside + spread * first + _finite(low) * below + _finite(high) * above
    square = mean**2 * inside + 2 * mean * spread * first + spread**2 * second
    square = square + _finite(low) ** 2 * below + _finite(high) ** 2 * above
    return average.to(std.dtype), (square - average**2).clamp_min(0).sqrt().to(std.dtype)


def _density(z: torch.Tensor) -> torch.Tensor:
    return torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _cumulative(z: torch.Tensor) -> torch.Tensor:
    return torch.special.ndtr(z)


def _finite(value: Value) -> Value:
    """The value, or 0 where it is infinite: it is multiplied by a probability of 0."""
    if isinstance(value, torch.Tensor):
        return torch.where(value.isinf(), 0.0, value)
    return 0.0 if math.isinf(value) else value
