"""What a network's output says: which tensor of it, and whether that holds class scores, probabilities or values.

``output``, an argument of whatever compares outputs, says which:

- None finds class scores by themselves: the output itself, or its ``cls_logits`` or ``out`` where it is a mapping.
- a key of a mapping, the position in a tuple or list, or a function of the output: there they are.
- ``"scores"``: as None, and they are logits, even if they look like probabilities.
- ``"values"``: as None, and what is found are values of any shape [N, …], as a regressor's.

The shape of class scores says what they are of:

- [N, classes], [N, classes, 1, 1]: one softmax for each image.
- [N, classes, H, W]: one for each pixel.
- [N, anchors, classes], as a detector's, if ``output`` names them or their name is ``cls_logits``: each class of each
  anchor has a probability of its own (Bernoulli). Several labels for an image are that, with one anchor:
  ``output=lambda logits: logits[:, None]``.
- one class, as [N], [N, 1] or [N, 1, H, W]: the logit of a yes or no (Bernoulli).

Probabilities are recognised in what the float network says of all images: of several classes they sum to 1 and none is
negative; of one class they lie in [0, 1], the ends included, since float32's sigmoid reaches them. Their logarithms
stand for logits then, or the logarithms of their odds, with 0 (and 1) moved to the nearest number that has one.

The distance of class scores is their KL divergence, averaged over images and places. That of values is the mean
squared change, relative to the variance of the float network's: Σ (y′ − y)² / Σ (y − ȳ)², where the sums and the mean ȳ
are over images and elements.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.mixed_precision.divergence import SCORES, VALUES, Kind
from zeroq.modules import evaluating, forward

Output = str | int | Callable[[Any], torch.Tensor] | None

KINDS = ("scores", "values")
# Of torchvision's detectors and of its networks for segmentation.
KEYS = ("cls_logits", "out")
# How far probabilities may be from a sum of 1, if their type is not coarser.
SUM_ERROR = 1e-4
NOT_FINITE = "the network's class scores hold NaN or infinite values; check its weights"


class UnreadableOutputError(ZeroQError):
    """An output in which nothing is found that networks could be compared by."""


@dataclass(frozen=True)
class Reading:
    """How a network's output is read: where ``output`` says, as ``reading_of`` found it to be.

    ``deviation`` is the standard deviation of values.
    """

    output: Output = None
    probabilities: bool = False
    deviation: float = 1.0

    @property
    def kind(self) -> Kind:
        """What distances are of."""
        return VALUES if self.output == "values" else SCORES

    def scores(self, output: Any) -> torch.Tensor:
        """What ``kind`` compares of a network's output, finite or not: to ask would wait for a GPU.

        Logits as ``DivergenceFrom`` takes them, or values in units of their deviation, float64 [N, …]. Raises
        UnreadableOutputError.
        """
        found = self._tensor(output)
        if self.kind == VALUES:
            return found.double() / self.deviation
        scores = _arranged(found)
        return _logits(scores) if self.probabilities else scores

    def narrowed(self, output: Any) -> Any:
        """The output without what is not looked at. It may hold a graph's nodes instead of tensors."""
        key = self._key(output)
        parts = output
        return {key: parts[key]} if key is not None and isinstance(output, Mapping | tuple | list) else output

    def _key(self, output: Any) -> str | int | None:
        """The key or position of what is looked at; None for the whole output."""
        if callable(self.output):
            return None
        if self.output is not None and self.output not in KINDS:
            return self.output
        return next((key for key in KEYS if isinstance(output, Mapping) and key in output), None)

    def _tensor(self, output: Any) -> torch.Tensor:
        key = self._key(output)
        if callable(self.output):
            found = self.output(output)
        elif key is None:
            found = output
        else:
            found = _part(output, key)
        if not isinstance(found, torch.Tensor) or not found.is_floating_point() or not found.dim():
            raise UnreadableOutputError(_refusal(found))
        if found.dim() == 3 and key is None and self.output is None:
            if found.shape[2] != 1:
                raise UnreadableOutputError(_refusal(found))
            return found[..., 0]
        return found


# As long as no network has been asked.
BY_SHAPE = Reading()


def reading_of(model: nn.Module, images: torch.Tensor, output: Output) -> Reading:
    """How the outputs of a float network are read, from what it says of ``images`` [N, C, H, W], one after the other.

    Raises UnreadableOutputError for an output in which nothing is found, and ZeroQError for ``output`` of another kind,
    for scores that are not finite, and for values without variance.
    """
    check_output(output)
    plain = Reading(output)
    with evaluating(model), torch.no_grad():
        found = (class_scores(model, image, plain) for image in images.split(1))
        if output == "values":
            deviation = torch.cat([each.flatten() for each in found]).std(correction=0).item()
            if not deviation > 0:
                raise ZeroQError(
                    "the network's values are the same for all images: they have no variance to compare by"
                )
            return replace(plain, deviation=deviation)
        # Most networks' first image tells.
        return replace(plain, probabilities=all(map(_are_probabilities, found)) and output != "scores")


def class_scores(model: nn.Module, images: torch.Tensor, reading: Reading = BY_SHAPE) -> torch.Tensor:
    """What a network says of images, as ``Reading.scores`` gives it.

    Raises UnreadableOutputError, and ZeroQError for scores that are not finite.
    """
    scores = reading.scores(forward(model, images))
    if not scores.isfinite().all():
        raise ZeroQError(NOT_FINITE)
    return scores


def check_output(output: Any) -> None:
    """Raise ZeroQError for what does not say where to look."""
    if isinstance(output, bool) or not (output is None or isinstance(output, str | int) or callable(output)):
        raise ZeroQError(
            f"output must be None, {', '.join(map(repr, KINDS))}, a key, a position or a function of the network's "
            f"output, not {output!r}"
        )


def _arranged(scores: torch.Tensor) -> torch.Tensor:
    """Class scores as ``DivergenceFrom`` takes them."""
    if scores.dim() == 3:
        return scores
    if scores.dim() == 1 or scores.shape[1] == 1:
        return scores.reshape(len(scores), -1, 1)
    flat = scores.flatten(1)
    return flat if flat.shape[1] == scores.shape[1] else scores


def _are_probabilities(scores: torch.Tensor) -> bool:
    if scores.min() < 0:
        return False
    if scores.dim() == 3:
        return scores.shape[2] == 1 and bool(scores.max() <= 1)
    return bool((scores.double().sum(1) - 1).abs().max() <= max(SUM_ERROR, torch.finfo(scores.dtype).eps))


def _logits(probabilities: torch.Tensor) -> torch.Tensor:
    """Logits that give these probabilities, float64."""
    limits = torch.finfo(probabilities.dtype)
    if probabilities.dim() == 3:
        return probabilities.double().clamp(limits.tiny, 1 - limits.eps / 2).logit()
    return probabilities.double().clamp_min(limits.tiny).log()


def _part(output: Any, key: str | int) -> Any:
    parts = (
        output if isinstance(output, Mapping) else dict(enumerate(output)) if isinstance(output, tuple | list) else {}
    )
    if key not in parts:
        raise UnreadableOutputError(f"output={key!r} is no part of the network's output, which is {_described(output)}")
    return parts[key]


def _refusal(found: Any) -> str:
    return (
        f"sensitivity needs a classifier with one output tensor [images, classes], or [images, classes, height, width] "
        f"for one whose classes are of pixels, or outputs that hold cls_logits [images, anchors, classes] or out, not "
        f"{_described(found)}; say where class scores are, output= a key, a position or a function of the output, or "
        f"that it holds values, output='values'; for other networks call zeroq.zero_shot_quantize with mixed=False"
    )


def _described(output: Any) -> str:
    if isinstance(output, torch.Tensor):
        return f"one tensor {tuple(output.shape)} of {output.dtype}"
    if isinstance(output, Mapping):
        return f"a mapping with the keys {', '.join(map(repr, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"
