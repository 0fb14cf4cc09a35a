"""The distance between what two networks say: the KL divergence of their class scores."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from zeroq.errors import ZeroQError
from zeroq.images.checks import forward

Direction = Literal["forward", "symmetric"]

# A detector gives 10⁷ scores an image.
IMAGES_AT_ONCE = 4


def check_direction(direction: str) -> None:
    """Raise ZeroQError for a direction that does not exist."""
    if direction not in get_args(Direction):
        raise ZeroQError(f"direction must be one of {', '.join(get_args(Direction))}, not {direction!r}")


def class_scores(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits of a classifier [N, classes], or of a detector with an output ``cls_logits`` [N, anchors, classes].

    Raises ZeroQError for any other output, and for scores that are not finite.
    """
    output = forward(model, images)
    if isinstance(output, Mapping) and isinstance(output.get("cls_logits"), torch.Tensor):
        scores = output["cls_logits"]
    elif isinstance(output, torch.Tensor) and output.dim() > 1 and output.flatten(1).shape[1] == output.shape[1]:
        scores = output.flatten(1)
    else:
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise ZeroQError(
            f"sensitivity needs a classifier with one output tensor [images, classes], or a detector whose outputs "
            f"hold cls_logits [images, anchors, classes], not {found}; for other networks call zeroq.distill, "
            f"zeroq.quantize with one width for all layers, and zeroq.calibrate"
        )
    if not scores.isfinite().all():
        raise ZeroQError("the network's class scores hold NaN or infinite values; check its weights")
    return scores


def divergence(reference: torch.Tensor, changed: torch.Tensor, direction: Direction) -> float:
    """Mean KL(reference ‖ changed) in nats, from the logits that ``class_scores`` gives.

    For a classifier KL of the softmax, averaged over images. For a detector KL of each class's own probability
    (Bernoulli), summed over classes, averaged over anchors and images. ``symmetric``: the mean of both directions.
    """
    total = 0.0
    for before, after in zip(reference.split(IMAGES_AT_ONCE), changed.split(IMAGES_AT_ONCE), strict=True):
        one, other = _log_probabilities(before), _log_probabilities(after)
        distance = functional.kl_div(other, one, log_target=True, reduction="sum")
        if direction == "symmetric":
            distance = (distance + functional.kl_div(one, other, log_target=True, reduction="sum")) / 2
        total += distance.item()
    return max(total / reference[..., 0].numel(), 0.0)


def _log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Of a classifier's classes [N, classes], or of each detector's class being there and not [2, N, anchors, classes].

    In float64, because the difference of nearly equal distributions cancels most of float32's digits, and from
    logits, so that no certain class makes it infinite.
    """
    logits = logits.double()
    if logits.dim() == 2:
        return functional.log_softmax(logits, dim=1)
    return torch.stack([functional.logsigmoid(logits), functional.logsigmoid(-logits)])
