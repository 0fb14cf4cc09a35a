"""What runtimes would compute otherwise than it was simulated, in other words that they do not."""

import copy
import operator
from collections.abc import Sequence
from functools import partial
from math import floor
from typing import Any, cast

import numpy
import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.graph.operators import arguments_of, called, operator_of, options
from zeroq.graph.patterns import gives_single_places, layer_calls
from zeroq.graph.placement import insert_behind, only_leads_out
from zeroq.graph.tracers import Leaf
from zeroq.layers import WEIGHTED_LAYERS, is_affine, weighted_layer
from zeroq.quantization.affine import FLOAT_BITS

AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE_MAXIMA = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
CONVOLUTIONS = (
    *(functional.conv1d, functional.conv2d, functional.conv3d),
    *(functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d, functional.linear),
    *(torch.conv1d, torch.conv2d, torch.conv3d),
)


class InFloat(nn.Module, Leaf):
    """Hands floats on as they are, where a runtime would make one integer kernel of what precedes and what follows."""

    lowest: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lowest", torch.tensor(torch.finfo(torch.float32).min))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.maximum(values, self.lowest)


class Resize(nn.Upsample, Leaf):
    """A resize whose size may come with the call."""

    def wanted(self, values: torch.Tensor, size: Sequence[int] | int | None) -> list[int]:
        """Of each side, how long it becomes."""
        sides, given = values.shape[2:], self.size if size is None else size
        if given is not None:
            return each_of(given, len(sides))
        return [
            floor(side * factor) for side, factor in zip(sides, each_of(self.scale_factor, len(sides)), strict=True)
        ]


class NearestResize(Resize):
    """Nearest neighbours, chosen by the same index as torch's, which it finds in float32; runtimes divide otherwise."""

    def forward(self, values: torch.Tensor, size: Sequence[int] | int | None = None) -> torch.Tensor:
        sides, wanted = values.shape[2:], self.wanted(values, size)
        if all(new % side == 0 for new, side in zip(wanted, sides, strict=True)):
            return functional.interpolate(values, wanted)
        known = self.scale_factor is not None and not self.recompute_scale_factor
        factors = each_of(self.scale_factor, len(sides)) if known else None
        for place, (side, new) in enumerate(zip(sides, wanted, strict=True)):
            step = numpy.float32(side / new if factors is None else 1 / factors[place])
            shift = numpy.float32(0.5 if self.mode == "nearest-exact" else 0)
            chosen = [min(int((numpy.float32(index) + shift) * step), side - 1) for index in range(new)]
            values = values.index_select(place + 2, torch.tensor(chosen, device=values.device))
        return values


class CubicResize(Resize):
    """A bicubic resize as products with two matrices, since onnxruntime refuses one that shrinks channels-last maps."""

    def forward(self, values: torch.Tensor, size: Sequence[int] | int | None = None) -> torch.Tensor:
        for axis, new in zip((2, 3), self.wanted(values, size), strict=True):
            side = values.shape[axis]
            unit = torch.eye(side, dtype=values.dtype, device=values.device)[None, None]
            factor = None if self.scale_factor is None else (each_of(self.scale_factor, 2)[axis - 2], 1.0)
            how: dict[str, Any] = (
                {"scale_factor": factor} if factor and not self.recompute_scale_factor else {"size": (new, side)}
            )
            how |= {"mode": "bicubic", "align_corners": self.align_corners, "antialias": self.antialias}
            matrix = functional.interpolate(unit, **how)[0, 0]
            values = matrix @ values if axis == 2 else values @ matrix.T
        return values


class AdaptiveMax(nn.AdaptiveMaxPool2d, Leaf):
    """Adaptive max pooling as largest values of slices, axis by axis: torch.onnx has no operator for it."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        axes = values.dim() - 2
        for axis, count in zip(range(2, values.dim()), each_of(self.output_size, axes), strict=True):
            side = values.shape[axis]
            ends = [(place * side // count, -(-(place + 1) * side // count)) for place in range(count or 0)]
            parts = [values.narrow(axis, start, end - start).amax(axis, keepdim=True) for start, end in ends]
            values = torch.cat(parts, axis) if parts else values  # None keeps the side
        return values


def each_of(given: Any, axes: int) -> list[Any]:
    """A setting for each axis, of one for all or of as many as there are."""
    return list(given) if isinstance(given, tuple | list) else [given] * axes


def respell(graph: fx.GraphModule) -> None:
    """Say what runtimes compute otherwise in other words, in an ``explicit`` graph, which is changed in place.

    Padding that is not zeros is a node of its own; a convolution that sees one place and gives the scores is a Linear
    layer, which has an integer kernel; nearest neighbours are chosen by index, a cubic resize is a product, and
    adaptive maxima are those of slices.
    """
    for name, nodes in list(layer_calls(graph).items()):
        _separate_padding(graph, name, nodes)
    for name, nodes in list(layer_calls(graph).items()):
        if all(_is_pointwise_classifier(graph, node) for node in nodes):
            _as_linear(graph, name, nodes)
    for node in list(graph.graph.nodes):
        _respell_resize(graph, node)
        _respell_adaptive_max(graph, node)


def keep_in_float(graph: fx.GraphModule) -> None:
    """Keep runtimes from fusing what has no integer kernel that gives the same with the quantizers around it.

    Convolutions whose weights the plan left in float, which onnxruntime would round to 8 bits by itself; average pools
    with windows that reach over the edge, of which it divides by the whole; softmax, of which it has a table.
    """
    for node in list(graph.graph.nodes):
        if _needs_float(graph, node):
            graph.add_submodule(name := f"{node.name}_in_float", InFloat())
            insert_behind(graph, node, name)


def _needs_float(graph: fx.GraphModule, node: fx.Node) -> bool:
    module, given = called(graph, node), arguments_of(node) if node.op == "call_function" else {}
    if node.target in CONVOLUTIONS:
        return True
    if isinstance(module, WEIGHTED_LAYERS):
        return int(getattr(module, "weight_bits", FLOAT_BITS)) == FLOAT_BITS or not is_affine(module)
    if isinstance(module, AVERAGES) or node.target is functional.avg_pool2d:
        return getattr(module, "ceil_mode", given.get("ceil_mode", False)) is True
    return operator_of(graph, node).weighs


def _separate_padding(graph: fx.GraphModule, name: str, nodes: list[fx.Node]) -> None:
    """Padding with a layer's own values as a node in front of each of its calls."""
    layer = weighted_layer(graph, name)
    if isinstance(layer, nn.Linear) or layer.padding_mode == "zeros" or not is_affine(layer):
        return
    words: dict[str, Any] = {"mode": layer.padding_mode}
    sides = layer._reversed_padding_repeated_twice
    for node in nodes:
        source = node.all_input_nodes[0]
        with graph.graph.inserting_before(node):
            padded = graph.graph.call_function(functional.pad, (source, sides), words)
        node.replace_input_with(source, padded)
    own = copy.copy(layer)
    own.padding, own.padding_mode = (0,) * len(layer.kernel_size), "zeros"
    own._reversed_padding_repeated_twice = [0] * (2 * len(layer.kernel_size))
    graph.set_submodule(name, own)


def _is_pointwise_classifier(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a convolution is a Linear layer: over single places, with nothing but the scores behind it."""
    layer = called(graph, node)
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (1, 1) or layer.groups != 1:
        return False
    if layer.stride != (1, 1) or layer.padding not in ((0, 0), "valid") or not is_affine(layer):
        return False
    return gives_single_places(graph, node.all_input_nodes[0]) and only_leads_out(graph, node)


def _as_linear(graph: fx.GraphModule, name: str, nodes: list[fx.Node]) -> None:
    layer = cast(nn.Conv2d, graph.get_submodule(name))
    linear = nn.Linear(layer.in_channels, layer.out_channels, bias=False, device="meta")
    linear._buffers = dict(layer._buffers)
    bias = cast("nn.Parameter | None", layer.bias)
    linear._parameters = {"weight": nn.Parameter(layer.weight.detach().flatten(1)), "bias": bias}
    graph.set_submodule(name, linear.eval())
    for node in nodes:
        source = node.all_input_nodes[0]
        with graph.graph.inserting_before(node):
            node.replace_input_with(source, graph.graph.call_method("flatten", (source, 1)))
        with graph.graph.inserting_after(node):
            column = graph.graph.call_method("unsqueeze", (node, 2))
        with graph.graph.inserting_after(column):
            place = graph.graph.call_method("unsqueeze", (column, 3))
        node.replace_all_uses_with(place, delete_user_cb=partial(operator.is_not, column))


def _respell_adaptive_max(graph: fx.GraphModule, node: fx.Node) -> None:
    """``AdaptiveMax`` in place of torch's own."""
    module = called(graph, node)
    if isinstance(module, ADAPTIVE_MAXIMA) and not module.return_indices:
        size = module.output_size
    elif node.target in (functional.adaptive_max_pool1d, functional.adaptive_max_pool2d):
        size = arguments_of(node)["output_size"]
    else:
        return
    _replace(graph, node, f"{node.name}_slices", AdaptiveMax(size), {})


def _replace(graph: fx.GraphModule, node: fx.Node, name: str, module: nn.Module, words: dict[str, Any]) -> None:
    """Call a module of that name with what a node is given first, and with words, in place of the node."""
    graph.add_submodule(name, module)
    with graph.graph.inserting_before(node):
        new = graph.graph.call_module(name, (node.all_input_nodes[0],), words)
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)


def _respell_resize(graph: fx.GraphModule, node: fx.Node) -> None:
    """``NearestResize`` or ``CubicResize`` in place of a resize."""
    given = options(graph, node)
    if "scale_factor" not in given or given["mode"] not in ("nearest", "nearest-exact", "bicubic"):
        return
    module = called(graph, node)
    others = arguments_of(node) if module is None else vars(module)
    how = {name: others.get(name) for name in ("align_corners", "recompute_scale_factor")}
    kind = CubicResize if given["mode"] == "bicubic" else NearestResize
    resize = kind(None if module is None else given["size"], given["scale_factor"], given["mode"], **how)
    resize.antialias = others.get("antialias", False)
    _replace(graph, node, f"{node.name}_resize", resize, {"size": given["size"]} if module is None else {})
