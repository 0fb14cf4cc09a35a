"""Sensitivities to second order, from one forward and a few backward passes, however many layers and widths.

Near the float network the KL divergence is half a quadratic form in the change of the class scores, whose matrix F is
the Fisher information of the probabilities, for either direction. Another weight changes a layer's output by Δ and the
scores by J Δ, so that Ω ≈ ½ Δᵀ Jᵀ F J Δ. With F = B Bᵀ and a random direction ξ ~ N(0, I) this is
½ E[⟨Jᵀ B ξ, Δ⟩²]: one backward pass of ⟨B ξ, scores⟩ gives Jᵀ B ξ at the outputs of all layers, and every width's Δ
costs that layer alone.

Source: the Gauss–Newton form of the Hessian (Schraudolph, Neural Computation 2002), which HAWQ-V2 (Dong et al., NeurIPS
2020) takes the place of Ω by.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from zeroq.errors import ZeroQError
from zeroq.images import evenly_spread
from zeroq.mixed_precision.divergence import scores_of
from zeroq.mixed_precision.exact import Variants
from zeroq.modules import forward, without_weight_gradients

# Of the calibration images, evenly spread; each is seen by that many random directions.
IMAGES = 16
DIRECTIONS = 2


def estimates(
    model: nn.Module,
    images: torch.Tensor,
    candidates: Variants,
    *,
    count: int = IMAGES,
    directions: int = DIRECTIONS,
    seed: int = 0,
    on_layer: Callable[[int, int], None],
) -> torch.Tensor:
    """Ω of each layer at each width to second order, float64 [layers, widths] on the CPU.

    ``model`` is in evaluation mode. The mean is over ``count`` of the images and ``directions`` for each.
    """
    chosen = evenly_spread(images, count).detach()
    generator = torch.Generator().manual_seed(seed)
    with without_weight_gradients(model), torch.enable_grad():
        with outputs_of(candidates.layers) as calls:
            scores = scores_of(forward(model, chosen.requires_grad_()))
        outputs = [output for *_, output in calls]
        gradients = score_gradients(scores, outputs, directions, generator)
    places = defaultdict(list)
    for place, (name, *_) in enumerate(calls):
        places[name].append(place)
    values = scores.new_zeros((len(candidates.layers), len(candidates.widths)), dtype=torch.float64)
    with torch.no_grad():
        for row, (name, layer) in enumerate(candidates.layers.items()):
            own = [place for place in places[name] if gradients[0][place] is not None and outputs[place].numel()]
            for column, changed in enumerate(candidates.variants(name) if own else []):
                with changed:
                    changes = [layer(*calls[place][1], **calls[place][2]).sub_(outputs[place]) for place in own]
                values[row, column] = changes_of_scores(gradients, own, changes).square().mean() / 2
            on_layer(row + 1, len(candidates.layers))
    anchors = scores[0, ..., 0].numel()
    return (values / anchors).cpu()


def score_gradients(
    scores: torch.Tensor, outputs: list[torch.Tensor], directions: int, generator: torch.Generator
) -> list[tuple[torch.Tensor | None, ...]]:
    """Jᵀ B ξ at each of the outputs, for so many random directions ξ; raises as ``backward`` does."""
    drawn = torch.randn(directions, *scores.shape, generator=generator).to(scores)
    return [
        backward(scores, outputs, fisher_root(scores.detach(), each), again=done < directions)
        for done, each in enumerate(drawn, start=1)
    ]


def changes_of_scores(
    gradients: Sequence[tuple[torch.Tensor | None, ...]], places: Sequence[int], changes: Iterable[torch.Tensor]
) -> torch.Tensor:
    """How far changes of the outputs at these places move the scores in each direction: float64 [directions, N].

    Of a module that is used several times, the changes add up before anything is squared.
    """
    return sum(
        inner_products([each[place] for each in gradients], change)
        for place, change in zip(places, changes, strict=True)
    ).double()


def backward(
    scores: torch.Tensor, outputs: list[torch.Tensor], direction: torch.Tensor, *, again: bool
) -> tuple[torch.Tensor | None, ...]:
    """The gradient of ⟨direction, scores⟩ by each output, None for those that the scores do not depend on.

    Raises ZeroQError for a network that only runs forward.
    """
    try:
        return torch.autograd.grad(scores, outputs, direction, retain_graph=again, allow_unused=True)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = str(error).splitlines()[0]
        raise ZeroQError(
            f"the network cannot be differentiated ({reason}); measure its sensitivities exactly, sensitivity='exact'"
        ) from error


def inner_products(gradients: Sequence[torch.Tensor], change: torch.Tensor) -> torch.Tensor:
    """⟨gradient, change⟩ of each image, [gradients, N].

    Fresh memory costs more than the products, and so does flattening maps whose channels lie together.
    """
    products, axes = torch.empty_like(change), tuple(range(1, change.dim()))
    return torch.stack([torch.mul(each, change, out=products).sum(axes) for each in gradients])


def fisher_root(scores: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """B ξ with B Bᵀ the Fisher information of the probabilities that ``scores`` [N, (anchors,) classes] give.

    Of a classifier's softmax diag(p) − p pᵀ, of each of a detector's classes p (1 − p).
    """
    if scores.dim() == 2:
        probabilities = scores.softmax(1)
        scaled = probabilities.sqrt() * drawn
        return scaled - probabilities * scaled.sum(1, keepdim=True)
    return scores.sigmoid().mul((-scores).sigmoid()).sqrt() * drawn


@contextmanager
def outputs_of(layers: dict[str, nn.Module]) -> Iterator[list[tuple[str, tuple, dict, torch.Tensor]]]:
    """Record (layer's name, its inputs, those given by keyword, its output) of every call inside.

    What follows a layer is given a copy of the output, because it may work in place.
    """
    calls: list[tuple[str, tuple, dict, torch.Tensor]] = []

    def record(name: str) -> Callable:
        def hook(layer: nn.Module, inputs: tuple, named: dict, output: torch.Tensor) -> torch.Tensor:
            detached = tree_map_only(torch.Tensor, torch.Tensor.detach, (inputs, named))
            calls.append((name, *detached, output))
            return output.clone()

        return hook

    handles = [layer.register_forward_hook(record(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
