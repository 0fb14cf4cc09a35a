"""The distance between what two networks say: the KL divergence of their class scores."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from zeroq.errors import ZeroQError
from zeroq.modules import forward

Direction = Literal["forward", "symmetric"]

# A detector gives 10⁷ scores an image.
IMAGES_AT_ONCE = 4
NOT_FINITE = "the network's class scores hold NaN or infinite values; check its weights"


def check_direction(direction: str) -> None:
    """Raise ZeroQError for a direction that does not exist."""
    if direction not in get_args(Direction):
        raise ZeroQError(f"direction must be one of {', '.join(get_args(Direction))}, not {direction!r}")


def class_scores(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits of a classifier [N, classes], or of a detector with an output ``cls_logits`` [N, anchors, classes].

    Raises ZeroQError for any other output, and for scores that are not finite.
    """
    scores = scores_of(forward(model, images))
    if not scores.isfinite().all():
        raise ZeroQError(NOT_FINITE)
    return scores


def scores_of(output: Any) -> torch.Tensor:
    """The scores of ``class_scores`` in a network's output, finite or not: to ask would wait for a GPU."""
    if isinstance(output, Mapping) and isinstance(output.get("cls_logits"), torch.Tensor):
        return output["cls_logits"]
    if isinstance(output, torch.Tensor) and output.dim() > 1 and output.flatten(1).shape[1] == output.shape[1]:
        return output.flatten(1)
    found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    raise ZeroQError(
        f"sensitivity needs a classifier with one output tensor [images, classes], or a detector whose outputs "
        f"hold cls_logits [images, anchors, classes], not {found}; for other networks call zeroq.distill, "
        f"zeroq.quantize with one width for all layers, and zeroq.calibrate"
    )


def divergence(reference: torch.Tensor, changed: torch.Tensor, direction: Direction) -> float:
    """Mean KL(reference ‖ changed) in nats, from the logits that ``class_scores`` gives.

    For a classifier KL of the softmax, averaged over images. For a detector KL of each class's own probability
    (Bernoulli), summed over classes, averaged over anchors and images. ``symmetric``: the mean of both directions.
    """
    total = reference.new_zeros((), dtype=torch.float64)
    for before, after in zip(reference.split(IMAGES_AT_ONCE), changed.split(IMAGES_AT_ONCE), strict=True):
        total += DivergenceFrom(before, direction)(after)
    return max(total.item() / reference[..., 0].numel(), 0.0)


class DivergenceFrom:
    """``divergence`` of many from one reference, whose own probabilities are computed once.

    A call gives the sum over images and anchors, float64 and on the scores' device: to ask for a number would wait for
    a GPU.
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


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Of a classifier's classes [N, classes], or of each detector's class being there and not [2, N, anchors, classes].

    In float64, because the difference of nearly equal distributions cancels most of float32's digits, and from
    logits, so that no certain class makes it infinite.
    """
    logits = logits.double()
    if logits.dim() == 2:
        return functional.log_softmax(logits, dim=1)
    return torch.stack([functional.logsigmoid(logits), functional.logsigmoid(-logits)])
