"""Moments of a function of a normal variable, by quadrature."""

from collections.abc import Callable

import torch

from zeroq.baselines.moments import DEVIATIONS, Moments

# Evenly spaced over as many deviations to both sides as a range has: the sum over such points is the integral of a
# smooth function to all digits, and to three where the function has a kink. Even, so that half of them lie to each side
# of a step at the mean.
POINTS = 128
# Between which the extremes are looked for, where a range is not that of a normal variable.
PLACES = 33


def moments_of_function(function: Callable[[torch.Tensor], torch.Tensor], given: Moments) -> Moments:
    """Of ``function(X)`` for X ~ N(mean, std²), cut at its ends; ``function`` maps each value of a tensor [1, …].

    The ends are the function's extremes over the points, among them both ends of X. What is no number, as a comparison,
    counts as 0 or 1.
    """

    def values(at: torch.Tensor) -> torch.Tensor:
        return function(at).to(given.mean.dtype)

    middle = values(given.mean)
    low = high = middle
    first = second = torch.zeros_like(middle, dtype=torch.float64)
    deviations = torch.linspace(-DEVIATIONS, DEVIATIONS, POINTS, dtype=torch.float64)
    weights = torch.softmax(-(deviations**2) / 2, 0)
    for deviation, weight in zip(deviations.tolist(), weights.tolist(), strict=True):
        found = values((given.mean + deviation * given.std).clamp(given.low, given.high))
        low, high = torch.minimum(low, found), torch.maximum(high, found)
        # From the middle's value, so that no digits cancel.
        difference = (found - middle).double()
        first = first + weight * difference
        second = second + weight * difference**2
    for share in torch.linspace(0, 1, PLACES).tolist():
        found = values(torch.lerp(given.low, given.high, share))
        low, high = torch.minimum(low, found), torch.maximum(high, found)
    std = (second - first**2).clamp_min(0).sqrt()
    return Moments((middle + first).to(middle), std.to(middle), low, high)
