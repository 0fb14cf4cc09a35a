"""The layers of a traced network: where it calls them, and which follow each other without a branch."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.graph.operators import called, flattens_maps, name_of, operator_of, scales
from zeroq.graph.tracers import Leaf
from zeroq.layers import WEIGHTED_LAYERS, is_affine, weighted_layer
from zeroq.modules import holds_statistics

SPATIAL_AXES = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}


@dataclass(frozen=True)
class LayerPair:
    """Two layers, by name, of which the second sees all that the first gives and nothing else.

    ``between`` are the graph's nodes from one to the other, in order.
    """

    first: str
    second: str
    between: tuple[fx.Node, ...]


def layer_calls(graph: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """The calls of every Conv and Linear layer by its name, in order of execution."""
    calls = defaultdict(list)
    for node in graph.graph.nodes:
        if isinstance(called(graph, node), WEIGHTED_LAYERS):
            calls[node.target].append(node)
    return dict(calls)


def calls_of(graph: fx.GraphModule, name: str) -> list[fx.Node]:
    """The nodes that call a module, in order of execution."""
    return [node for node in graph.graph.nodes if node.op == "call_module" and node.target == name]


def changeable_layers(graph: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """Of ``layer_calls``, the layers whose weight and bias say all that they do, and that nothing else uses."""
    owners = defaultdict(set)
    for name, parameter in graph.named_parameters(remove_duplicate=False):
        owners[id(parameter)].add(name)
    used = attributes(graph)
    layers = {}
    for name, calls in layer_calls(graph).items():
        layer = weighted_layer(graph, name)
        names = [owners[id(parameter)] for parameter in (layer.weight, layer.bias) if parameter is not None]
        if all(len(owned) == 1 and not owned & used for owned in names) and is_affine(layer):
            layers[name] = calls
    return layers


def attributes(graph: fx.GraphModule) -> set[str]:
    """The parameters and buffers that the network's own code refers to, outside their layers."""
    return {node.target for node in graph.graph.nodes if node.op == "get_attr"}


def layer_pairs(graph: fx.GraphModule) -> list[LayerPair]:
    """Every pair of Conv or Linear layers that a positive scale of each channel can move between.

    Between the two there are only operations that scale with their input and keep the channels in order, and no
    branch, sum, concatenation or shuffle. Where a layer is called several times, each call must lead to the second
    layer, and all of the second's calls must come from there. Transposed convolutions are left out.
    """
    layers = changeable_layers(graph)
    pairs = []
    for first, nodes in layers.items():
        paths = [path for node in nodes if (path := _path(graph, node)) is not None]
        if len(paths) < len(nodes):
            continue
        ends = [path[-1] for path in paths]
        second = name_of(ends[0])
        if second not in layers or second == first or set(ends) != set(layers[second]):
            continue
        pairs.append(LayerPair(first, second, tuple(node for path in paths for node in path[:-1])))
    return pairs


def _path(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node] | None:
    """The nodes behind a call up to the next layer's, or None where the channels do not get there one by one."""
    # Of what flows; 0 for vectors and tokens, whose channels lie along the last axis.
    axes = _spatial_axes(graph.get_submodule(name_of(node)))
    path = []
    while axes is not None and len(node.users) == 1:
        (node,) = node.users
        path.append(node)
        if isinstance(second := called(graph, node), WEIGHTED_LAYERS):
            return path if _spatial_axes(second) == axes else None
        if axes and flattens_maps(graph, node):
            axes = 0
        elif not scales(graph, node, axes):
            return None
    return None


def _spatial_axes(layer: nn.Module) -> int | None:
    """Over how many axes a layer slides, 0 for a Linear one; None for transposed convolutions."""
    if isinstance(layer, nn.Linear):
        return 0
    return next((axes for convolution, axes in SPATIAL_AXES.items() if isinstance(layer, convolution)), None)


def gives_vectors(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is known to give vectors [N, features]."""
    row, module = operator_of(graph, node), called(graph, node)
    if node.op in ("placeholder", "get_attr") or not node.all_input_nodes:
        return False
    if flattens_maps(graph, node):
        return True
    if node.target in ("view", "reshape", torch.reshape):
        sizes = node.args[1:]
        return len(sizes[0] if isinstance(sizes[0], tuple | list) else sizes) == 2
    before = node.all_input_nodes[0]
    if node.target in ("mean", torch.mean) and not given(node, 2, "keepdim", False):
        axes = given(node, 1, "dim", None)
        return isinstance(axes, tuple | list) and len(axes) == 2 and gives_maps(graph, before)
    keeps = isinstance(module, nn.Linear) or (module is not None and holds_statistics(module))
    keeps = keeps or row.elementwise or row.arithmetic or row.clamps_between is not None
    return keeps and gives_vectors(graph, before)


def gives_maps(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is known to give maps [N, channels, height, width]."""
    row, module = operator_of(graph, node), called(graph, node)
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) or row.within_channels == 2:
        return True
    keeps = (module is not None and holds_statistics(module)) or row.elementwise or row.arithmetic
    keeps = keeps or row.clamps_between is not None
    return keeps and bool(node.all_input_nodes) and gives_maps(graph, node.all_input_nodes[0])


def given(node: fx.Node, place: int, name: str, default: Any) -> Any:
    """What a function or a method is given, by its place behind the input or by name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def gives_single_places(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is known to give maps [N, channels, 1, 1]."""
    row, module = operator_of(graph, node), called(graph, node)
    if isinstance(module, nn.AdaptiveAvgPool2d) or node.target is functional.adaptive_avg_pool2d:
        size = module.output_size if module is not None else given(node, 1, "output_size", None)
        return size in (1, (1, 1), [1, 1])
    if node.target in ("mean", torch.mean) and given(node, 2, "keepdim", False):
        return sorted(axis % 4 for axis in given(node, 1, "dim", ())) == [2, 3]
    keeps = row.elementwise or row.clamps_between is not None or isinstance(module, Leaf)
    return keeps and bool(node.all_input_nodes) and gives_single_places(graph, node.all_input_nodes[0])
