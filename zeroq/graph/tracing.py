"""A network as a torch.fx graph, whose leaves are the layers that quantization is about."""

import copy
import inspect
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from zeroq.errors import ZeroQError
from zeroq.images import gaussian_images
from zeroq.layers import WEIGHTED_LAYERS, weighted_layers
from zeroq.modules import evaluating, forward, holds_statistics

NEED = "DFQ, placement integer and export need the graph, method zeroq with another placement needs no tracing"
TORCH = f"{Path(torch.__file__).parent}{os.sep}"


class Leaf:
    """Mixed into modules that are nodes of a graph as they are: what they do inside is not traced."""


def trace(model: nn.Module) -> fx.GraphModule:
    """The graph of a copy of a network in evaluation mode; Conv, Linear and BatchNorm layers are its leaves.

    Arguments of the network that have a default keep it. Raises ZeroQError where the network cannot be traced, with
    the module and the line where tracing stopped.
    """
    tracer = _Tracer()
    try:
        root = copy.deepcopy(model).eval()
        parameters = inspect.signature(root.forward).parameters.values()
        defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
        graph = fx.GraphModule(root, tracer.trace(root, defaults))
    except Exception as error:
        module = " in ".join(reversed(tracer.within)) or type(model).__name__
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(TORCH)]
        place, reason = frames[-1], (str(error) or type(error).__name__).splitlines()[0]
        raise ZeroQError(
            f"the network cannot be traced: {module} stops at {place.filename}:{place.lineno}, `{place.line}` "
            f"({reason}); {NEED}"
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
    check_same_outputs(model, graph, gaussian_images(input_shape, 1))


def check_same_outputs(model: nn.Module, graph: fx.GraphModule, images: torch.Tensor) -> None:
    """``check_traced`` on given images [N, C, H, W]."""
    with evaluating(model), evaluating(graph), torch.no_grad():
        expected, found = (tree_leaves(forward(network, images)) for network in (model, graph))
    for one, other in zip(expected, found, strict=True):
        if isinstance(one, torch.Tensor) and not torch.allclose(one, other, rtol=0, atol=1e-3 * one.abs().max().item()):
            raise ZeroQError(
                "the network cannot be traced: its graph gives other outputs than the network, so its forward asks for "
                f"something that tracing does not follow, such as a tensor's type; {NEED}"
            )


def operation_of(network: nn.Module, node: fx.Node) -> Callable | None:
    """What a node calls with its arguments' values; None where it only hands on what it is given.

    ``network`` has the modules and tensors that the graph names: the graph's own module, or one of the same names.
    """
    if node.op == "call_module":
        return network.get_submodule(node.target)
    if node.op == "call_method":
        return lambda own, *inputs, **named: getattr(own, node.target)(*inputs, **named)
    if node.op == "get_attr":
        owner, _, name = node.target.rpartition(".")
        return lambda: getattr(network.get_submodule(owner), name)
    return node.target if node.op == "call_function" else None


class _Tracer(fx.Tracer):
    def __init__(self):
        super().__init__()
        self.within: list[str] = []  # the modules that are being traced, for messages

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        kinds = (*WEIGHTED_LAYERS, Leaf)
        return isinstance(module, kinds) or holds_statistics(module) or super().is_leaf_module(module, name)

    def call_module(self, module: nn.Module, call: Callable, arguments: tuple, named: dict):
        self.within.append(f"{type(module).__name__} {self.path_of_module(module)!r}")
        output = super().call_module(module, call, arguments, named)
        self.within.pop()  # not after an exception
        return output
