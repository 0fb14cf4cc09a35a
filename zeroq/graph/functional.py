"""A traced graph without what changes a tensor in place, and without what does nothing."""

import inspect
import os
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.errors import ZeroQError
from zeroq.graph.operators import (
    IN_PLACE,
    arguments_of,
    called,
    function_of,
    in_place,
    name_of,
    operator_of,
    tensor_nodes,
)

TORCH = f"{Path(torch.__file__).parent}{os.sep}"
# In evaluation mode; a class of the caller's that inherits from one of them may do anything.
IDLE_MODULES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
IDLE_FUNCTIONS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "stochastic_depth")  # torch's and torchvision's


def make_functional(graph: fx.GraphModule) -> None:
    """Let everything that changes a tensor in place give a new one instead, which all see that saw the change.

    What was computed is in the graph's edges then, so that a quantizer may stand behind it. Changes the graph in place;
    the modules that it holds no longer work in place.

    Raises ZeroQError where another tensor, of which it is a part or which is a part of it, is used after the change.
    """
    tensors = tensor_nodes(graph)
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    for node in [node for node in order if in_place(graph, node)]:
        changed = node.all_input_nodes[0]
        if changed in tensors:
            others = _sharing(graph, changed) - {changed, node}
            if any(order[user] > order[node] for other in others if order[other] < order[node] for user in other.users):
                raise ZeroQError(
                    f"{_line(node)} changes in place what is a part of another tensor, and the graph does not say "
                    f"so; give the result a name of its own there, x = x + y for x += y"
                )
            for user in [user for user in changed.users if order[user] > order[node]]:
                user.replace_input_with(changed, node)
        _out_of_place(graph, node)


def remove_idle(graph: fx.GraphModule) -> None:
    """Take out what hands its input on in evaluation mode: Identity, Dropout, stochastic depth."""
    for node in list(graph.graph.nodes):
        given = arguments_of(node) if getattr(node.target, "__name__", None) in IDLE_FUNCTIONS else {}
        if type(called(graph, node)) in IDLE_MODULES or given.get("training") is False:
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.graph.erase_node(node)


def _sharing(graph: fx.GraphModule, node: fx.Node) -> set[fx.Node]:
    """The nodes that may give a tensor in the same memory."""
    found, left = set(), [node]
    while left:
        found.add(node := left.pop())
        beside = [user for user in node.users if operator_of(graph, user).shares_memory]
        if operator_of(graph, node).shares_memory:
            beside += node.all_input_nodes[:1]
        left += [each for each in beside if each not in found]
    return found


def _out_of_place(graph: fx.GraphModule, node: fx.Node) -> None:
    """Let a node call what gives a new tensor; what torch has in place only stays, and hands on what it changed."""
    if node.op == "call_module":
        module: Any = called(graph, node)
        module.inplace = False
    elif node.target in IN_PLACE:
        node.target = IN_PLACE[node.target]
    elif node.op == "call_method":
        plain = name_of(node).removesuffix("_")
        node.target = plain if hasattr(torch.Tensor, plain) else node.target
    elif arguments_of(node).get("inplace") is True:
        place = list(inspect.signature(function_of(node)).parameters).index("inplace")
        if place < len(node.args):
            node.update_arg(place, False)
        else:
            node.update_kwarg("inplace", False)
    else:
        name = function_of(node).__name__
        owner = next((each for each in (torch, functional) if getattr(each, name, None) is node.target), None)
        node.target = getattr(owner, name.removesuffix("_"), node.target)


def _line(node: fx.Node) -> str:
    """Where in the network's code a node was made."""
    lines = [line.strip() for line in (node.stack_trace or "").splitlines() if line.strip().startswith("File ")]
    own = [line for line in lines if TORCH not in line]
    return own[-1] if own else f"the network's {node.name!r}"
