"""A network as a torch.fx graph, and which of its layers follow each other without a branch."""

import copy
import inspect
import os
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from zeroq.errors import ZeroQError
from zeroq.images.batch_norm import holds_statistics
from zeroq.images.checks import forward
from zeroq.images.noise import gaussian_images
from zeroq.networks.state import evaluating
from zeroq.quantization.layers import WEIGHTED_LAYERS, is_affine, weighted_layers

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
FLATTENING = (nn.Flatten, torch.flatten, "flatten")
SPATIAL_AXES = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
TORCH = f"{Path(torch.__file__).parent}{os.sep}"


@dataclass(frozen=True)
class LayerPair:
    """Two layers, by name, of which the second sees all that the first gives and nothing else.

    ``between`` are the graph's nodes from one to the other, in order.
    """

    first: str
    second: str
    between: tuple[fx.Node, ...]


def trace(model: nn.Module) -> fx.GraphModule:
    """The graph of a copy of a network in evaluation mode; Conv, Linear and BatchNorm layers are its leaves.

    Arguments of the network that have a default keep it. Raises ZeroQError where the network cannot be traced, with
    the module and the line where tracing stopped.
    """
    tracer = _Tracer()
    root = copy.deepcopy(model).eval()
    parameters = inspect.signature(root.forward).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    try:
        graph = fx.GraphModule(root, tracer.trace(root, defaults))
    except Exception as error:
        module = " in ".join(reversed(tracer.within)) or type(model).__name__
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(TORCH)]
        place, reason = frames[-1], (str(error) or type(error).__name__).splitlines()[0]
        raise ZeroQError(
            f"the network cannot be traced: {module} stops at {place.filename}:{place.lineno}, `{place.line}` "
            f"({reason}); DFQ needs the graph, method zeroq needs no tracing"
        ) from error
    # An auxiliary head that only training uses is quantized, and has its size, as with any other method.
    traced = dict(graph.named_modules())
    for name, layer in weighted_layers(root).items():
        if name not in traced:
            graph.add_submodule(name, layer)
    return graph


def check_traced(model: nn.Module, graph: fx.GraphModule, input_shape: tuple[int, int, int]) -> None:
    """Raise ZeroQError where a graph computes something else than the network that it was traced from.

    Tracing takes one branch and does not see which, where code asks for a tensor's type.
    """
    image = gaussian_images(input_shape, 1)
    with evaluating(model), evaluating(graph), torch.no_grad():
        expected, found = (tree_leaves(forward(network, image)) for network in (model, graph))
    for one, other in zip(expected, found, strict=True):
        if isinstance(one, torch.Tensor) and not torch.allclose(one, other, rtol=0, atol=1e-3 * one.abs().max().item()):
            raise ZeroQError(
                "the network cannot be traced: its graph gives other outputs than the network, so its forward asks for "
                "something that tracing does not follow, such as a tensor's type; DFQ needs the graph, method zeroq "
                "needs no tracing"
            )


class _Tracer(fx.Tracer):
    def __init__(self):
        super().__init__()
        self.within: list[str] = []  # the modules that are being traced, for messages

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, WEIGHTED_LAYERS) or holds_statistics(module) or super().is_leaf_module(module, name)

    def call_module(self, module: nn.Module, call: Callable, arguments: tuple, named: dict):
        self.within.append(f"{type(module).__name__} {self.path_of_module(module)!r}")
        output = super().call_module(module, call, arguments, named)
        self.within.pop()  # not after an exception
        return output


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
