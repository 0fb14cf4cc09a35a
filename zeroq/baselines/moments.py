"""What is known of an activation without an image: its mean, standard deviation and range."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from zeroq.baselines.clipped_normal import clipped_normal_moments

# Standard deviations between a channel's mean and the ends of its range.
DEVIATIONS = 6


def _itself(values: torch.Tensor) -> torch.Tensor:
    return values


@dataclass(frozen=True, eq=False)
class Moments:
    """Of one activation, as tensors of its shape [1, …]: mean, standard deviation, smallest and largest value.

    ``origin`` is the activation of whose value at the same place this one is a ``function``; None where it is no
    other's. ``measured`` names the operations in front of it that have no rule, so that noise told what they give.
    """

    mean: torch.Tensor
    std: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    origin: "Moments | None" = None
    function: Callable[[torch.Tensor], torch.Tensor] = _itself
    measured: frozenset[str] = frozenset()

    @classmethod
    def normal(cls, mean: torch.Tensor, std: torch.Tensor) -> "Moments":
        """Of a normal variable, with ends six standard deviations from the mean."""
        return cls(mean, std, mean - DEVIATIONS * std, mean + DEVIATIONS * std)

    @classmethod
    def normal_within(cls, mean: torch.Tensor, std: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> "Moments":
        """Of a normal variable that is known to reach no further than to these ends."""
        normal = cls.normal(mean, std)
        return cls(mean, std, torch.maximum(normal.low, low), torch.minimum(normal.high, high))

    @classmethod
    def constant(cls, values: torch.Tensor) -> "Moments":
        """Of what is the same for every image."""
        return cls(values, torch.zeros_like(values), values, values)

    @property
    def finite(self) -> bool:
        """Whether it says something of every value."""
        return all(bool(each.isfinite().all()) for each in (self.mean, self.std, self.low, self.high))

    def clipped(self, low: float, high: float) -> "Moments":
        """Behind an activation that clips."""
        mean, std = clipped_normal_moments(self.mean, self.std, low, high)
        return Moments(mean, std, self.low.clamp(low, high), self.high.clamp(low, high))

    def times(self, factor: float | torch.Tensor) -> "Moments":
        """Of a multiple."""
        ends = (factor * self.low, factor * self.high)
        size: Any = abs(factor)
        return Moments(factor * self.mean, size * self.std, torch.minimum(*ends), torch.maximum(*ends))

    def shifted(self, constant: float | torch.Tensor) -> "Moments":
        """Of the sum with a constant."""
        mean = self.mean + constant
        return Moments(mean, self.std.expand_as(mean), self.low + constant, self.high + constant)

    def plus(self, other: "Moments") -> "Moments":
        """Of the sum of two activations, which are taken as independent."""
        mean, std = self.mean + other.mean, (self.std**2 + other.std**2).sqrt()
        return Moments.normal_within(mean, std, self.low + other.low, self.high + other.high)

    def product(self, other: "Moments") -> "Moments":
        """Of the product of two activations, which are taken as independent (Goodman 1960)."""
        mean = self.mean * other.mean
        variance = (self.std * other.std) ** 2 + (self.std * other.mean) ** 2 + (self.mean * other.std) ** 2
        ends = torch.stack([one * two for one in (self.low, self.high) for two in (other.low, other.high)])
        return Moments.normal_within(mean, variance.sqrt(), ends.amin(0), ends.amax(0))
