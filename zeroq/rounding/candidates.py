"""Every layer's weight at several widths, as compensated rounding gives it: what sensitivities are measured with."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.layers import WeightedLayer, channel_axis, is_affine, weighted_layers
from zeroq.modules import evaluating, forward
from zeroq.quantization.affine import Granularity, WeightRange, fake_quantize, quantized_weights, weight_parameters
from zeroq.rounding.columns import weight_of_rows, weight_rows
from zeroq.rounding.compensated import Grid, compensated, greedy
from zeroq.rounding.layer_by_layer import grid_of_rows, inputs_of, moments_of, number_of_calls
from zeroq.rounding.second_moments import SecondMoments
from zeroq.rounding.trust import statistics_mismatch


def compensated_weights(
    model: nn.Module,
    images: torch.Tensor,
    widths: Sequence[int],
    *,
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    refined: bool = True,
) -> dict[str, list[torch.Tensor]]:
    """Each Conv and Linear weight by its layer's name, at each of the widths (2…8), on the float network's inputs.

    Arguments as in ``round_layer_by_layer``, which rounds on inputs that are quantized already. Layers that it rounds
    to the nearest are rounded so here. Without ``refined``, integers are those that rounding starts from, which takes
    a third of the time. Raises ZeroQError for inputs of a layer that are not finite.
    """
    layers = weighted_layers(model)
    granularity: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    calls = number_of_calls(model, images)
    weights = {
        name: quantized_weights(layer.weight, widths, axis=channel_axis(layer), **granularity)
        for name, layer in layers.items()
        if name not in calls or not is_affine(layer)
    }
    mismatch = statistics_mismatch(model, images)
    seen = defaultdict(list)

    def visit(name: str, values: torch.Tensor) -> None:
        if name in weights:
            return
        seen[name].append(values.clone() if calls[name] > 1 else values)  # what follows may change it in place
        if len(seen[name]) == calls[name]:
            moments = moments_of(name, layers[name], seen.pop(name))
            weights[name] = at_widths(layers[name], moments, mismatch[name], widths, refined=refined, **granularity)

    with evaluating(model), torch.no_grad(), inputs_of(layers, visit):
        forward(model, images)
    if seen:
        raise ZeroQError(f"the network does not call {next(iter(seen))!r} as often every time")
    return weights


def at_widths(
    layer: WeightedLayer,
    moments: SecondMoments,
    mismatch: float,
    widths: Sequence[int],
    *,
    per_channel: bool,
    symmetric: bool,
    weight_range: WeightRange = "with_zero",
    refined: bool,
) -> list[torch.Tensor]:
    """A layer's weight at each width; all of them are one problem, whose outputs have grids of their own."""
    axis = channel_axis(layer)
    how: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    parameters = [weight_parameters(layer.weight, bits, axis=axis, **how) for bits in widths]
    rows = weight_rows(layer, layer.weight.detach().float())
    grids = [grid_of_rows(layer, each) for each in parameters]
    parts = zip(*((grid.scale, grid.lowest, grid.highest) for grid in grids), strict=True)
    grid = Grid(*(torch.cat(part, dim=1) for part in parts))
    repeated = rows.repeat(1, len(widths), 1)
    damped = moments.shrunk(mismatch)[0]
    rounded = compensated(repeated, moments.gram, damped, grid) if refined else greedy(repeated, damped, grid)
    return [
        fake_quantize(weight_of_rows(layer, part).to(layer.weight), own, axis=axis)
        for part, own in zip(rounded.chunk(len(widths), dim=1), parameters, strict=True)
    ]
