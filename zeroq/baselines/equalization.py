"""Cross-layer equalization (Nagel et al. 2019, section 4.1)."""

import warnings

import torch
from torch import fx

from zeroq.graph.patterns import LayerPair, layer_pairs
from zeroq.layers import WeightedLayer, weight_by_input, weighted_layer

# Of the logarithm of a scale: ranges of a pair then differ by less than a thousandth.
SETTLED = 1e-4
LARGEST_SWEEPS = 1000
# Of a layer's largest weight range: a channel below it is dead. Equalization would scale what is left of it, its bias,
# far beyond what the other channels give.
SMALLEST_RANGE = 1e-5


def equalize(graph: fx.GraphModule) -> fx.GraphModule:
    """Scale channels between the layers of every pair until both have the same weight range in each (Eq. 11).

    Iterated over all pairs until the scales settle, so that chains (the depthwise triples of MobileNetV2) are equal
    as a whole. The outputs stay the same, but for rounding. Unlike in the paper, a channel of next to no weight on one
    side is left alone (``unequal_channels``). Changes the graph in place and returns it.
    """
    pairs = layer_pairs(graph)
    # The scales follow from the largest |weight| of each output and input channel, which are far fewer than weights.
    sizes = {pair.second: len(weighted_layer(graph, pair.first).weight) for pair in pairs}
    layers = {name: weighted_layer(graph, name) for pair in pairs for name in (pair.first, pair.second)}
    largest = {name: _largest_weights(layer, sizes.get(name)) for name, layer in layers.items()}
    totals: dict[LayerPair, torch.Tensor] = {}
    for _ in range(LARGEST_SWEEPS):
        change = 0.0
        for pair in pairs:
            scale = _scale(largest[pair.first].amax(2).flatten(), largest[pair.second].amax(1).flatten())
            _, outputs, _ = largest[pair.first].shape
            largest[pair.first] = largest[pair.first] / scale.view(-1, outputs, 1)
            largest[pair.second] = largest[pair.second] * scale.view(len(largest[pair.second]), 1, -1)
            totals[pair] = totals[pair] * scale if pair in totals else scale
            change = max(change, scale.log().abs().max().item())
        if change < SETTLED:
            break
    else:
        warnings.warn(f"cross-layer equalization has not settled after {LARGEST_SWEEPS} sweeps", stacklevel=2)
    for pair, total in totals.items():
        _divide_outputs(layers[pair.first], total)
        _multiply_inputs(layers[pair.second], total)
    return graph


def unequal_channels(graph: fx.GraphModule, pairs: list[LayerPair]) -> int:
    """How many channels equalization leaves alone for want of weight on one side."""
    found = 0
    for pair in pairs:
        first, second = weighted_layer(graph, pair.first), weighted_layer(graph, pair.second)
        found += int((~_alive(output_ranges(first), input_ranges(second, len(first.weight)))).sum())
    return found


def _scale(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """By what to divide a first layer's outputs and multiply a second's inputs, from their ranges: [channels]."""
    return torch.where(_alive(one, other), (one / other).sqrt(), 1.0)


def _alive(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one > SMALLEST_RANGE * one.max()) & (other > SMALLEST_RANGE * other.max())


def _largest_weights(layer: WeightedLayer, channels: int | None) -> torch.Tensor:
    """Largest |weight| as [groups, outputs of a group, inputs of a group]; a channel's several inputs are one.

    ``channels`` is the number of channels that arrive, None where nothing scales them.
    """
    weight = weight_by_input(layer, layer.weight.detach().abs()).amax(3)
    if channels is None:
        return weight.amax(2, keepdim=True)
    return weight.unflatten(2, (channels // len(weight), -1)).amax(3)


def output_ranges(layer: WeightedLayer) -> torch.Tensor:
    """Largest |weight| of each output channel: [channels]."""
    return layer.weight.detach().abs().flatten(1).amax(1)


def input_ranges(layer: WeightedLayer, channels: int) -> torch.Tensor:
    """Largest |weight| of each of ``channels`` input channels, of which a Linear layer may have several values each."""
    weight = weight_by_input(layer, layer.weight.detach()).abs()
    return weight.amax((1, 3)).flatten().view(channels, -1).amax(1)


def _divide_outputs(layer: WeightedLayer, scale: torch.Tensor) -> None:
    layer.weight.data /= scale.view(-1, *(1 for _ in layer.weight.shape[1:]))
    for name in ("bias", "output_mean", "output_std"):
        if getattr(layer, name, None) is not None:
            getattr(layer, name).data /= scale


def _multiply_inputs(layer: WeightedLayer, scale: torch.Tensor) -> None:
    weight = weight_by_input(layer, layer.weight.data)
    groups, _, inputs, _ = weight.shape
    spread = scale.repeat_interleave(groups * inputs // len(scale)).view(groups, 1, inputs, 1)
    layer.weight.data = (weight * spread).reshape(layer.weight.shape)
