"""Which layers of a traced network follow each other without a branch."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.layers import WEIGHTED_LAYERS, is_affine

# What does the same to every value, f(s·x) = s·f(x) for s > 0; by class, function or method.
ELEMENTWISE = (
    *(nn.Identity, nn.Dropout, nn.ReLU, nn.LeakyReLU, nn.PReLU),
    *(functional.dropout, functional.relu, torch.relu, functional.leaky_relu),
    *("relu", "relu_", "contiguous"),
)
# What scales in the same way and works within each channel of a map, and over how many spatial axes.
WITHIN_CHANNELS = {
    nn.MaxPool1d: 1,
    nn.AvgPool1d: 1,
    **dict.fromkeys([nn.Dropout2d, nn.ZeroPad2d, nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d], 2),
    **dict.fromkeys([nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d], 2),
    **dict.fromkeys(
        [functional.max_pool2d, torch.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d], 2
    ),
    functional.interpolate: 2,
}
# What cuts its input at constants, which runtimes compute in one kernel with the layer or the sum before it.
CLAMPING = (nn.ReLU, nn.ReLU6, nn.Hardtanh, functional.relu, functional.relu6, functional.hardtanh)
CLAMPING += (torch.relu, torch.relu_, torch.clamp, torch.clip, torch.clamp_min, functional.hardtanh_)
CLAMPING += ("relu", "relu_", "clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_")
CLAMPING_MODULES = tuple(each for each in CLAMPING if isinstance(each, type))
FLATTENING = (nn.Flatten, torch.flatten, "flatten")
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
        if node.op == "call_module" and isinstance(graph.get_submodule(node.target), WEIGHTED_LAYERS):
            calls[node.target].append(node)
    return dict(calls)


def kind(graph: fx.GraphModule, node: fx.Node) -> type | Callable | str:
    """What a node does: its module's class, its function or its method's name."""
    return type(graph.get_submodule(node.target)) if node.op == "call_module" else node.target


def clamps(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a ReLU or cuts its input at other constants."""
    if node.op == "call_module":
        return isinstance(graph.get_submodule(node.target), CLAMPING_MODULES)
    return node.op in ("call_function", "call_method") and node.target in CLAMPING


def changeable_layers(graph: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """Of ``layer_calls``, the layers whose weight and bias say all that they do, and that nothing else uses."""
    owners = defaultdict(set)
    for name, parameter in graph.named_parameters(remove_duplicate=False):
        owners[id(parameter)].add(name)
    used = attributes(graph)
    layers = {}
    for name, calls in layer_calls(graph).items():
        layer = graph.get_submodule(name)
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
        paths = [_path(graph, node) for node in nodes]
        if None in paths:
            continue
        ends = [path[-1] for path in paths]
        second = ends[0].target
        if second not in layers or second == first or set(ends) != set(layers[second]):
            continue
        pairs.append(LayerPair(first, second, tuple(node for path in paths for node in path[:-1])))
    return pairs


def _path(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node] | None:
    """The nodes behind a call up to the next layer's, or None where the channels do not get there one by one."""
    # Of what flows; 0 for vectors and tokens, whose channels lie along the last axis.
    axes = _spatial_axes(graph.get_submodule(node.target))
    path = []
    while axes is not None and len(node.users) == 1:
        (node,) = node.users
        path.append(node)
        what = kind(graph, node)
        if node.op == "call_module" and isinstance(second := graph.get_submodule(node.target), WEIGHTED_LAYERS):
            return path if _spatial_axes(second) == axes else None
        if what in FLATTENING and axes and _flattens_maps(graph, node):
            axes = 0
        elif what not in ELEMENTWISE and WITHIN_CHANNELS.get(what) != axes:
            return None
    return None


def _spatial_axes(layer: nn.Module) -> int | None:
    """Over how many axes a layer slides, 0 for a Linear one; None for transposed convolutions."""
    if isinstance(layer, nn.Linear):
        return 0
    return next((axes for convolution, axes in SPATIAL_AXES.items() if isinstance(layer, convolution)), None)


def _flattens_maps(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a flattening makes vectors of maps, [N, C, …] → [N, C · …]."""
    if node.op == "call_module":
        module = graph.get_submodule(node.target)
        axes = (module.start_dim, module.end_dim)
    else:
        given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
        axes = (given.get("start_dim", 0), given.get("end_dim", -1))
    return axes == (1, -1)
