"""Quantize weights layer by layer, in order of execution, each on what the quantized layers before it hand on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.images import check_images
from zeroq.layers import WeightedLayer, beside_weight, channel_axis, is_affine, shift_bias, weighted_layers
from zeroq.modules import evaluating, first_argument, forward
from zeroq.quantization.affine import FLOAT_BITS, AffineParameters, Granularity, WeightRange, weight_parameters
from zeroq.quantization.convert import activation_quantizers
from zeroq.quantization.layers import round_to_nearest, store_weight
from zeroq.quantization.permanent_weights import with_permanent_weights
from zeroq.rounding.columns import summed_outputs, weight_of_rows, weight_rows
from zeroq.rounding.compensated import Grid, compensated
from zeroq.rounding.drift import correct_drift
from zeroq.rounding.second_moments import SecondMoments
from zeroq.rounding.trust import statistics_mismatch


class _PassOverError(Exception):
    """Ends a forward pass: what follows was computed with a weight that has changed since."""


def round_layer_by_layer(
    quantized: nn.Module,
    model: nn.Module,
    images: torch.Tensor,
    plan: Mapping[str, int],
    *,
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    correct: bool = False,
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Quantize the weights of a network whose activations are calibrated already, by compensated rounding.

    Args:
        quantized: what ``quantize`` made of ``model`` with float weights, calibrated; it is changed in place.
        model: the float network, whose layers say how inputs meet weights.
        images: float [N, C, H, W], normalised; all pass through at once.
        plan: bits of each Conv and Linear weight by its name.
        per_channel, symmetric, weight_range: as in ``quantize``.
        correct: shift biases by the mean errors that quantized activations make (``correct_drift``, before any weight
            is rounded), and by the one that a layer's own weight makes. What other layers' weights do to its inputs is
            left alone: on images that are not real these errors have another mean than on real ones.
        on_layer: receives (layers done, layers in all).

    Returns:
        By layer, the share of the correlations between its inputs that was not believed (``SecondMoments.shrunk``).
        Layers that the images do not reach, or whose forward does more than multiply by their weight, are rounded to
        the nearest and not named.

    A layer that is called several times sees the inputs of all its calls, and ends a pass through the network.

    Raises ZeroQError for images that the network does not accept, and for inputs of a layer that are not finite.
    """
    check_images(images)
    model = with_permanent_weights(model)
    mismatch = statistics_mismatch(model, images)
    if correct and activation_quantizers(quantized):
        correct_drift(quantized, model, images, mismatch)
    layers, originals = weighted_layers(quantized), weighted_layers(model)
    calls = number_of_calls(quantized, images)
    pending = {name: calls[name] for name in calls if plan[name] != FLOAT_BITS and is_affine(originals[name])}
    how: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    for name in layers.keys() - pending.keys():
        round_to_nearest(layers[name], plan[name], **how)
    shares: dict[str, float] = {}
    total = len(pending)

    def settle(name: str, inputs: list[torch.Tensor]) -> None:
        layer, bits = layers[name], plan[name]
        moments = moments_of(name, originals[name], inputs)
        parameters = weight_parameters(layer.weight, bits, axis=channel_axis(layer), **how)
        rows = weight_rows(layer, layer.weight.detach().float())
        damped, shares[name] = moments.shrunk(mismatch[name])
        rounded = compensated(rows, moments.gram, damped, grid_of_rows(layer, parameters))
        store_weight(layer, weight_of_rows(layer, rounded), parameters, bits)
        if correct:
            errors = (rows - rounded).double() @ moments.column[..., None]
            shift_bias(layer, summed_outputs(originals[name], errors[..., 0]))
        del pending[name]
        on_layer(total - len(pending), total)

    gathered: dict[str, list[torch.Tensor]] = {}

    def visit(name: str, values: torch.Tensor) -> None:
        if name not in pending or (gathered and name not in gathered):
            return
        several = pending[name] > 1
        seen = gathered.setdefault(name, [])
        seen.append(values.clone() if several else values)  # what follows may change it in place
        if len(seen) == pending[name]:
            gathered.clear()
            settle(name, seen)
            if several:
                raise _PassOverError

    with evaluating(quantized), torch.no_grad(), inputs_of(layers, visit):
        while pending:
            before = len(pending)
            try:
                forward(quantized, images)
            except _PassOverError:
                continue
            if len(pending) == before:
                raise ZeroQError(f"the network does not call {next(iter(pending))!r} as often every time")
    return shares


def number_of_calls(network: nn.Module, images: torch.Tensor) -> dict[str, int]:
    """How often images pass through each Conv and Linear layer that they reach, in order of first execution."""
    calls: dict[str, int] = {}

    def count(name: str, values: torch.Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1

    with evaluating(network), torch.no_grad(), inputs_of(weighted_layers(network), count):
        forward(network, images)
    return calls


def moments_of(name: str, layer: WeightedLayer, inputs: Sequence[torch.Tensor]) -> SecondMoments:
    """Second moments of a layer's inputs; raises ZeroQError that names the layer where they are not finite."""
    try:
        return SecondMoments(layer, inputs)
    except ZeroQError as error:
        raise ZeroQError(f"layer {name!r} cannot be rounded: {error}") from error


def grid_of_rows(layer: WeightedLayer, parameters: AffineParameters) -> Grid:
    """A weight's grid, for its rows in float32."""
    scale, zero_point, lowest, highest = parameters
    shape = weight_rows(layer, layer.weight)[..., :1].shape

    def for_rows(values: torch.Tensor) -> torch.Tensor:
        spread = beside_weight(layer, values.float()).expand_as(layer.weight)
        return weight_rows(layer, spread)[..., :1].expand(shape)

    zero = for_rows(zero_point)
    return Grid(for_rows(scale), lowest - zero, highest - zero)


@contextmanager
def inputs_of(layers: Mapping[str, nn.Module], see: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Call ``see`` with (name, what the layer multiplies its weight with) before every call of a layer inside.

    Calls with no image at all, as of an expert that is not chosen, are left out.
    """

    def before(name: str, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        values = first_argument(inputs, named)
        if not values.numel():
            return
        quantizer = getattr(layer, "input_quantizer", None)
        see(name, values if quantizer is None else quantizer(values))

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hook = lambda layer, inputs, named, name=name: before(name, layer, inputs, named)  # noqa: E731
            hooks.enter_context(layer.register_forward_pre_hook(hook, with_kwargs=True))
        yield
