"""The distance between what two networks say: KL divergence of class scores, or squared change of values."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch.nn import functional

from zeroq.errors import ZeroQError

Direction = Literal["forward", "symmetric"]

# A detector gives 10⁷ scores an image.
IMAGES_AT_ONCE = 4


def check_direction(direction: str) -> None:
    """Raise ZeroQError for a direction that does not exist."""
    if direction not in get_args(Direction):
        raise ZeroQError(f"direction must be one of {', '.join(get_args(Direction))}, not {direction!r}")


class Kind(NamedTuple):
    """What a distance is of.

    Args:
        distance: (reference, direction) → a function of changed scores, which gives the sum of distances from the
            reference, float64 and on the scores' device: to ask for a number would wait for a GPU.
        root: (scores, ξ) → B ξ, where to second order the distance is half the quadratic form of B Bᵀ.
        count: how many distances the sum adds up.
    """

    distance: Callable[[torch.Tensor, Direction], Callable[[torch.Tensor], torch.Tensor]]
    root: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    count: Callable[[torch.Tensor], int]


class DivergenceFrom:
    """KL divergences of many class scores from one reference, whose own probabilities are computed once.

    Scores are logits: [N, classes, …] of a softmax for each image, and for each place where there are axes behind;
    [N, places, classes] of a probability for each class at each place (Bernoulli), summed over classes. ``symmetric``:
    the mean of both directions.
    """

    def __init__(self, reference: torch.Tensor, direction: Direction):
        self._logarithms = [_log_probabilities(part) for part in reference.split(IMAGES_AT_ONCE)]
        self._probabilities = [part.exp() for part in self._logarithms]
        self._symmetric = direction == "symmetric"

    def __call__(self, changed: torch.Tensor) -> torch.Tensor:
        total = changed.new_zeros((), dtype=torch.float64)
        parts = zip(self._logarithms, self._probabilities, changed.split(IMAGES_AT_ONCE), strict=True)
        for one, probabilities, after in parts:
            other = _log_probabilities(after)
            distance = (probabilities * (one - other)).sum()
            if self._symmetric:
                distance = (distance + functional.kl_div(one, other, log_target=True, reduction="sum")) / 2
            total += distance
        return total


def fisher_root(scores: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """B ξ with B Bᵀ the Fisher information of the probabilities that class scores give.

    Of a softmax diag(p) − p pᵀ, of each class that has a probability of its own p (1 − p).
    """
    if _is_bernoulli(scores):
        return scores.sigmoid().mul((-scores).sigmoid()).sqrt() * drawn
    probabilities = scores.softmax(1)
    scaled = probabilities.sqrt() * drawn
    return scaled - probabilities * scaled.sum(1, keepdim=True)


def distributions(scores: torch.Tensor) -> int:
    """How many images, or places in images, have a distribution in class scores."""
    return scores.numel() // scores.shape[2 if _is_bernoulli(scores) else 1]


def squared_change(reference: torch.Tensor, direction: Direction) -> Callable[[torch.Tensor], torch.Tensor]:
    """The summed squares of changes from ``reference``, the same in both directions."""
    del direction
    return lambda changed: (changed - reference).double().square().sum()


def squared_change_root(values: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """B ξ with B Bᵀ = 2 I."""
    return 2**0.5 * drawn


SCORES = Kind(DivergenceFrom, fisher_root, distributions)
VALUES = Kind(squared_change, squared_change_root, torch.Tensor.numel)


def divergence(reference: torch.Tensor, changed: torch.Tensor, direction: Direction, kind: Kind = SCORES) -> float:
    """The mean distance, of class scores KL(reference ‖ changed) in nats, averaged over images and places."""
    total = reference.new_zeros((), dtype=torch.float64)
    for before, after in zip(reference.split(IMAGES_AT_ONCE), changed.split(IMAGES_AT_ONCE), strict=True):
        total += kind.distance(before, direction)(after)
    return max(total.item() / kind.count(reference), 0.0)


def _is_bernoulli(scores: torch.Tensor) -> bool:
    return scores.dim() == 3


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Of the classes of a softmax [N, classes, …], or of each class being there and not [2, N, places, classes].

    In float64, because the difference of nearly equal distributions cancels most of float32's digits, and from
    logits, so that no certain class makes it infinite.
    """
    logits = logits.double()
    if _is_bernoulli(logits):
        return torch.stack([functional.logsigmoid(logits), functional.logsigmoid(-logits)])
    return functional.log_softmax(logits, dim=1)
