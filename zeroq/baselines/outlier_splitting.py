"""Outlier channel splitting: a channel with an extreme weight becomes two of half its size (Zhao et al. 2019)."""

import math
from collections.abc import Mapping

import torch
from torch import fx, nn

from zeroq.graph.patterns import changeable_layers
from zeroq.graph.tracing import check_traced, trace
from zeroq.layers import TRANSPOSED, WeightedLayer, weighted_layer, weighted_layers
from zeroq.quantization.affine import FLOAT_BITS, weight_parameters

ROUNDS = 20  # each brings the step at least twice as close to its fixed point


def split_outlier_channels(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    plan: Mapping[str, int],
    expansion: float,
    *,
    per_channel: bool,
    symmetric: bool,
) -> fx.GraphModule:
    """A copy of a network whose layers see some of their input channels twice, and compute the same.

    Of each layer's input channels so large a share is added, rounded up. One by one, the channel with the largest
    |weight| is split: w becomes (w − Δ/2) / 2 and (w + Δ/2) / 2, where Δ is the step of the grid that the split
    weight will have. Rounded, the two add up to w, rounded on a grid of that step; plain halves would both be rounded
    the same way.

    Args:
        model: a network that can be traced; left as it came.
        input_shape: (channels, height, width) in pixels.
        plan: every layer's bits; those of 32 are not split.
        expansion: the share of channels, above 0 and at most 1.
        per_channel, symmetric: how the weights will be quantized, as in ``quantize``.

    Layers in groups, transposed convolutions and layers that do more than their weight says stay as they are
    (``unsplit_layers``). Raises ZeroQError where the network cannot be traced.
    """
    graph = trace(model, input_shape)
    check_traced(model, graph, input_shape)
    for name, calls in splittable(graph).items():
        layer = weighted_layer(graph, name)
        if plan[name] == FLOAT_BITS:
            continue
        weight, channels = layer.weight.detach(), layer.weight.shape[1]
        columns = outlier_columns(weight, math.ceil(round(expansion * channels, 6)))
        step = step_of_split(weight, columns, plan[name], per_channel=per_channel, symmetric=symmetric)
        sources = list(range(channels))
        for column in columns:
            sources.append(sources[column])
        _set_inputs(layer, split_weight(weight, columns, step))
        _take_inputs(graph, name, calls, torch.tensor(sources, device=weight.device))
    graph.graph.lint()
    graph.recompile()
    return graph


def splittable(graph: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """The layers whose input channels can be split, with their calls."""
    return {
        name: calls
        for name, calls in changeable_layers(graph).items()
        if not isinstance(layer := weighted_layer(graph, name), TRANSPOSED) and getattr(layer, "groups", 1) == 1
    }


def unsplit_layers(graph: fx.GraphModule) -> list[str]:
    """The layers of a network that stay as they are."""
    return [name for name in weighted_layers(graph) if name not in splittable(graph)]


def outlier_columns(weight: torch.Tensor, count: int) -> list[int]:
    """Which columns of a weight [outputs, inputs, …] are split, in turn: each time the one with the largest |weight|.

    Each split puts one half in the column's place and the other behind all columns, so that either may be next.
    """
    largest = weight.abs().transpose(0, 1).flatten(1).amax(1).tolist()
    columns = []
    for _ in range(count):
        column = max(range(len(largest)), key=largest.__getitem__)
        largest[column] /= 2
        largest.append(largest[column])
        columns.append(column)
    return columns


def split_weight(weight: torch.Tensor, columns: list[int], step: torch.Tensor) -> torch.Tensor:
    """A weight [outputs, inputs, …] whose columns were split in turn; ``step`` is Δ, one for each output or for all."""
    parts = list(weight.unbind(1))
    apart = step.view(-1, *(1 for _ in parts[0].shape[1:])) if step.dim() else step
    for column in columns:
        whole = parts[column]
        parts[column] = (whole - apart / 2) / 2
        parts.append((whole + apart / 2) / 2)
    return torch.stack(parts, 1)


def step_of_split(
    weight: torch.Tensor, columns: list[int], bits: int, *, per_channel: bool, symmetric: bool
) -> torch.Tensor:
    """The Δ that the grid of the weight has once its columns were split with just that Δ."""
    step = torch.zeros((), device=weight.device)
    for _ in range(ROUNDS):
        split = split_weight(weight, columns, step)
        step = weight_parameters(split, bits, per_channel=per_channel, symmetric=symmetric).scale
    return step


def _set_inputs(layer: WeightedLayer, weight: torch.Tensor) -> None:
    layer.weight = nn.Parameter(weight.to(layer.weight), layer.weight.requires_grad)
    setattr(layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", weight.shape[1])


def _take_inputs(graph: fx.GraphModule, name: str, calls: list[fx.Node], channels: torch.Tensor) -> None:
    """Let a layer see these channels of its input, in this order."""
    buffer = f"{name}_inputs".replace(".", "_")
    graph.register_buffer(buffer, channels)
    axis = 1 - graph.get_submodule(name).get_parameter("weight").dim()  # from behind: images may come one by one
    for call in calls:
        (source, *_) = call.all_input_nodes
        with graph.graph.inserting_before(call):
            taken = graph.graph.call_function(torch.index_select, (source, axis, graph.graph.get_attr(buffer)))
        call.replace_input_with(source, taken)
