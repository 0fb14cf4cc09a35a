"""A network as a torch.fx graph, whose leaves are the layers that quantization is about."""

import inspect
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from zeroq.borrowing import copied
from zeroq.errors import ZeroQError
from zeroq.graph.functional import TORCH, make_functional, remove_idle
from zeroq.graph.operators import function_of, name_of
from zeroq.graph.tracers import ShapeTracer, Tracer
from zeroq.images import gaussian_images
from zeroq.layers import weighted_layers
from zeroq.modules import evaluating, forward

NEED = "DFQ, placement integer and export need the graph, method zeroq with another placement needs no tracing"


def trace(model: nn.Module, input_shape: tuple[int, int, int] | None = None) -> fx.GraphModule:
    """The graph of a copy of a network in evaluation mode; Conv, Linear and BatchNorm layers are its leaves.

    Nothing in it works in place, and what does nothing in evaluation mode is left out. Arguments of the network that
    have a default keep it. Where Python code asks for sizes, as in ``for side in x.shape[2:]``, ``input_shape``
    (channels, height, width) is what the graph is for; batches may have any size.

    Raises ZeroQError where the network cannot be traced, with the module and the line where tracing stopped.
    """
    tracer = Tracer()
    try:
        graph = _traced(model, tracer)
    except Exception as error:
        if input_shape is None:
            raise _error(error, tracer, model) from error
        tracer = ShapeTracer(input_shape)
        try:
            graph = _traced(model, tracer)
        except Exception as other:
            raise _error(other, tracer, model) from other
    remove_idle(graph)
    make_functional(graph)
    graph.graph.lint()
    graph.recompile()
    # An auxiliary head that only training uses is quantized, and has its size, as with any other method.
    traced = dict(graph.named_modules())
    for name, layer in weighted_layers(tracer.root).items():
        if name not in traced:
            graph.add_submodule(name, layer)
    return graph


def _traced(model: nn.Module, tracer: Tracer) -> fx.GraphModule:
    root = copied(model).eval()
    parameters = inspect.signature(root.forward).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return fx.GraphModule(root, tracer.trace(root, defaults))


def _error(error: Exception, tracer: Tracer, model: nn.Module) -> ZeroQError:
    """What to say where tracing stopped."""
    module = tracer.within[-1] if tracer.within else type(model).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(TORCH)]
    place, reason = frames[-1], (str(error) or type(error).__name__).splitlines()[0]
    return ZeroQError(
        f"the network cannot be traced: {module} stops at {place.filename}:{place.lineno}, `{place.line}` "
        f"({reason}); {NEED}"
    )


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


def operation_of(network: nn.Module, node: fx.Node) -> Callable[..., Any] | None:
    """What a node calls with its arguments' values; None where it only hands on what it is given.

    ``network`` has the modules and tensors that the graph names: the graph's own module, or one of the same names.
    """
    if node.op == "call_module":
        return network.get_submodule(name_of(node))
    if node.op == "call_method":
        return lambda own, *inputs, **named: getattr(own, name_of(node))(*inputs, **named)
    if node.op == "get_attr":
        owner, _, name = name_of(node).rpartition(".")
        return lambda: getattr(network.get_submodule(owner), name)
    return function_of(node) if node.op == "call_function" else None
