"""A network as a torch.fx graph, and which of its layers follow each other without a branch."""

import copy
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.errors import ZeroQError
from zeroq.images.batch_norm import holds_statistics
from zeroq.quantization.layers import WEIGHTED_LAYERS

# What scales with its input channel by channel, f(s·x) = s·f(x) for s > 0, and keeps the channels in order.
HOMOGENEOUS_MODULES = (
    *(nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.ZeroPad2d),
)
HOMOGENEOUS_FUNCTIONS = (
    *(functional.relu, torch.relu, functional.leaky_relu, functional.dropout, functional.interpolate),
    *(functional.max_pool2d, torch.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d, torch.flatten),
)
HOMOGENEOUS_METHODS = ("relu", "relu_", "contiguous", "flatten")
TORCH = str(Path(torch.__file__).parent)


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

    Raises ZeroQError where the network cannot be traced, with the module and the line where tracing stopped.
    """
    tracer = _Tracer()
    root = copy.deepcopy(model).eval()
    try:
        return fx.GraphModule(root, tracer.trace(root))
    except Exception as error:
        module = " in ".join(reversed(tracer.within)) or type(model).__name__
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(TORCH)]
        place = frames[-1]
        raise ZeroQError(
            f"the network cannot be traced: {module} stops at {place.filename}:{place.lineno}, `{place.line}` "
            f"({str(error).splitlines()[0]}); DFQ needs the graph, method zeroq needs no tracing"
        ) from error


class _Tracer(fx.Tracer):
    def __init__(self):
        super().__init__()
        self.within: list[str] = []  # the modules that are being traced, for messages

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, WEIGHTED_LAYERS) or holds_statistics(module) or super().is_leaf_module(module, name)

    def call_module(self, module: nn.Module, forward: Callable, arguments: tuple, named: dict):
        self.within.append(f"{type(module).__name__} {self.path_of_module(module)!r}")
        output = super().call_module(module, forward, arguments, named)
        self.within.pop()  # not after an exception
        return output


def layer_calls(graph: fx.GraphModule) -> dict[str, list[fx.Node]]:
    """The calls of every Conv and Linear layer by its name, in order of execution."""
    calls = defaultdict(list)
    for node in graph.graph.nodes:
        if node.op == "call_module" and isinstance(graph.get_submodule(node.target), WEIGHTED_LAYERS):
            calls[node.target].append(node)
    return dict(calls)


def layer_pairs(graph: fx.GraphModule) -> list[LayerPair]:
    """Every pair of Conv or Linear layers that a positive scale of each channel can move between.

    Between the two there are only operations that scale with their input, and no branch, sum, concatenation or
    shuffle. Where a layer is called several times, each call must lead to the second layer, and all of the second's
    calls must come from there.
    """
    calls = layer_calls(graph)
    pairs = []
    for first, nodes in calls.items():
        paths = [_path(graph, node) for node in nodes]
        if None in paths:
            continue
        ends = [path[-1] for path in paths]
        second = ends[0].target
        if {node.target for node in ends} == {second} and set(ends) == set(calls[second]) and second != first:
            pairs.append(LayerPair(first, second, tuple(node for path in paths for node in path[:-1])))
    return pairs


def _path(graph: fx.GraphModule, node: fx.Node) -> list[fx.Node] | None:
    """The nodes behind a call up to the next layer's, or None where something else comes first."""
    path = []
    while True:
        if len(node.users) != 1:
            return None
        (node,) = node.users
        path.append(node)
        module = graph.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, WEIGHTED_LAYERS):
            return path
        scales = {
            "call_module": isinstance(module, HOMOGENEOUS_MODULES),
            "call_function": node.target in HOMOGENEOUS_FUNCTIONS,
            "call_method": node.target in HOMOGENEOUS_METHODS,
        }
        if not scales.get(node.op, False):
            return None
