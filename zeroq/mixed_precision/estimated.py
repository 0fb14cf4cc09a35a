"""Sensitivities to second order, from one forward and a few backward passes, however many layers and widths.

Near the float network the distance is half a quadratic form in the change of the class scores, whose matrix F is for
the KL divergence the Fisher information of the probabilities, in either direction. Another weight changes a layer's
output by Δ and the scores by J Δ, so that Ω ≈ ½ Δᵀ Jᵀ F J Δ. With F = B Bᵀ and a random direction ξ ~ N(0, I) this is
½ E[⟨Jᵀ B ξ, Δ⟩²]: one backward pass of ⟨B ξ, scores⟩ gives Jᵀ B ξ at the outputs of all layers, and every width's Δ
costs that layer alone.

Source: the Gauss–Newton form of the Hessian (Schraudolph, Neural Computation 2002), which HAWQ-V2 (Dong et al., NeurIPS
2020) takes the place of Ω by.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from zeroq.errors import ZeroQError
from zeroq.images import evenly_spread
from zeroq.layers import integer_range
from zeroq.memory import is_out_of_memory
from zeroq.mixed_precision.divergence import Kind
from zeroq.mixed_precision.exact import Variants
from zeroq.mixed_precision.outputs import BY_SHAPE, Reading
from zeroq.modules import forward, without_weight_gradients

# Of the calibration images, evenly spread; each is seen by that many random directions.
IMAGES = 16
DIRECTIONS = 2
# Rounding errors on wider grids are those on this one, in proportion to the step.
LARGEST_COARSE = 4


class Call(NamedTuple):
    """A layer's call: its name, its inputs, those given by keyword, its output, and whether that depends on images."""

    name: str
    inputs: tuple[Any, ...]
    named: dict[str, Any]
    output: torch.Tensor
    sees_images: bool

    def change(self, layer: nn.Module) -> torch.Tensor:
        """How the output of the layer, as it is now, differs."""
        return layer(*self.inputs, **self.named).sub_(self.output)

    def is_by_image(self, count: int) -> bool:
        """Whether the output has a row for each of so many images."""
        return self.sees_images and self.output.dim() > 1 and len(self.output) == count


def estimates(
    model: nn.Module,
    images: torch.Tensor,
    candidates: Variants,
    *,
    count: int = IMAGES,
    directions: int = DIRECTIONS,
    seed: int = 0,
    on_layer: Callable[[int, int], None],
    reading: Reading = BY_SHAPE,
) -> torch.Tensor:
    """Ω of each layer at each width to second order, float64 [layers, widths] on the CPU.

    ``model`` is in evaluation mode. The mean is over ``count`` of the images and ``directions`` for each. Raises
    ZeroQError for a network that only runs forward.
    """
    chosen = evenly_spread(images, count).detach()
    generator = torch.Generator().manual_seed(seed)
    with without_weight_gradients(model), torch.enable_grad():
        with outputs_of(candidates.layers) as calls:
            scores = reading.scores(forward(model, chosen.requires_grad_()))
        check_images_are_seen(model, chosen, candidates.layers, calls)
        gradients = score_gradients(scores, calls, reading.kind, directions, generator)
    places = defaultdict(list)
    for place, call in enumerate(calls):
        if gradients[0][place] is not None and call.output.numel():
            places[call.name].append(place)
    values = scores.new_zeros((len(candidates.layers), len(candidates.widths)), dtype=torch.float64)
    with torch.no_grad():
        for row, (name, layer) in enumerate(candidates.layers.items()):
            own = places[name]
            for column, changed in enumerate(candidates.variants(name) if own else []):
                with changed:
                    changes = [calls[place].change(layer) for place in own]
                moved = changes_of_scores(gradients, calls, own, changes, len(chosen))
                values[row, column] = moved.square().sum(1).mean() / 2
            on_layer(row + 1, len(candidates.layers))
    return (values / reading.kind.count(scores)).cpu()


def coarse(widths: Sequence[int]) -> tuple[int, ...]:
    """Those of the widths, in ascending order, that ``extrapolated`` goes by."""
    return tuple(bits for bits in widths if bits <= max(LARGEST_COARSE, widths[0]))


def extrapolated(
    values: torch.Tensor, measured: Sequence[int], widths: Sequence[int], *, symmetric: bool
) -> torch.Tensor:
    """Ω at all widths, [layers, widths], of that at the first ones, which were measured.

    Rounding errors on a fine grid are as large as its step, so that Ω falls with the step's square.
    """
    highest = [integer_range(bits, symmetric=symmetric)[1] for bits in widths]
    steps = 1 / torch.tensor(highest, dtype=values.dtype)
    shares = (steps / steps[len(measured) - 1]).square()
    return torch.cat([values, values[:, -1:] * shares[len(measured) :]], dim=1)


def check_images_are_seen(
    model: nn.Module, images: torch.Tensor, layers: Mapping[str, nn.Module], calls: Sequence[Call]
) -> None:
    """Raise ZeroQError where a layer's output depends on images, but by what has no gradient.

    Few networks have such a call or one that sees no image, a position encoding's, and only those are run again, on
    other images.
    """
    if all(call.sees_images for call in calls):
        return
    with torch.no_grad(), outputs_of(layers) as others:
        forward(model, torch.zeros_like(images))
    for call, other in zip(calls, others, strict=False):
        if not call.sees_images and not torch.equal(call.output, other.output):
            raise not_differentiable(f"layer {call.name!r} depends on the images by what has no gradient")


def score_gradients(
    scores: torch.Tensor, calls: Sequence[Call], kind: Kind, directions: int, generator: torch.Generator
) -> list[tuple[torch.Tensor | None, ...]]:
    """Jᵀ B ξ at the output of each call, for so many random directions ξ; raises as ``backward`` does."""
    drawn = torch.randn(directions, *scores.shape, generator=generator).to(scores)
    outputs = [call.output for call in calls]
    return [
        backward(scores, outputs, kind.root(scores.detach(), each), again=done < directions)
        for done, each in enumerate(drawn, start=1)
    ]


def changes_of_scores(
    gradients: Sequence[tuple[torch.Tensor | None, ...]],
    calls: Sequence[Call],
    places: Sequence[int],
    changes: Sequence[torch.Tensor],
    images: int,
) -> torch.Tensor:
    """How far changes of the outputs at these places move the scores in each direction: float64 [directions, images].

    Of a module that is used several times, the changes add up before anything is squared. Where an output has no row
    for each image, it is the sum over images, [directions, 1], whose square is the sum of squares on average: the
    random directions of two images have nothing in common.
    """
    by_image = all(calls[place].is_by_image(images) for place in places)
    total: Any = 0
    for place, change in zip(places, changes, strict=True):
        own = [cast(torch.Tensor, each[place]) for each in gradients]
        total += inner_products(own, change) if by_image else inner_products([each[None] for each in own], change[None])
    return total.double()


def backward(
    scores: torch.Tensor, outputs: list[torch.Tensor], direction: torch.Tensor, *, again: bool
) -> tuple[torch.Tensor | None, ...]:
    """The gradient of ⟨direction, scores⟩ by each output, None for those that the scores do not depend on.

    Raises ZeroQError for a network that only runs forward.
    """
    try:
        return torch.autograd.grad(scores, outputs, direction, retain_graph=again, allow_unused=True)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise not_differentiable(str(error).splitlines()[0]) from error


def not_differentiable(reason: str) -> ZeroQError:
    """The error of a network that only runs forward."""
    return ZeroQError(
        f"the network cannot be differentiated ({reason}); measure its sensitivities exactly, zeroq.sensitivity(…, "
        f"mode='exact') or zero_shot_quantize(…, sensitivity='exact')"
    )


def inner_products(gradients: Sequence[torch.Tensor], change: torch.Tensor) -> torch.Tensor:
    """⟨gradient, change⟩ of each image, [gradients, N].

    Fresh memory costs more than the products, and so does flattening maps whose channels lie together.
    """
    products, axes = torch.empty_like(change), tuple(range(1, change.dim()))
    return torch.stack([torch.mul(each, change, out=products).sum(axes) for each in gradients])


@contextmanager
def outputs_of(layers: Mapping[str, nn.Module]) -> Iterator[list[Call]]:
    """Record every call inside.

    What follows a layer is given a copy of the output, because it may work in place. Scores have gradients by all
    outputs, those that depend on no image too.
    """
    calls: list[Call] = []

    def record(name: str) -> Callable[..., torch.Tensor]:
        def hook(
            layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: torch.Tensor
        ) -> torch.Tensor:
            inputs, named = tree_map_only(torch.Tensor, torch.Tensor.detach, (inputs, named))
            sees_images = output.requires_grad
            if not sees_images:
                output = output.detach().requires_grad_()
            calls.append(Call(name, inputs, named, output, sees_images))
            return output.clone()

        return hook

    handles = [layer.register_forward_hook(record(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
