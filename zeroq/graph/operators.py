"""Questions about a node of a traced graph: what it calls, and what is true of that."""

import inspect
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.graph.operator_rows import ROWS, UNKNOWN, Kind, Operator

CALLS = ("call_module", "call_function", "call_method")
# Values and their indices; and what makes floats of whole numbers.
GIVE_INDICES = (
    *(torch.max, torch.min, "max", "min", torch.sort, torch.topk, "sort", "topk"),
    *(functional.max_pool1d_with_indices, functional.max_pool2d_with_indices, functional.max_pool3d_with_indices),
)
DIVISIONS = (operator.truediv, torch.div, "div")
# The modules behind which placement after_relu puts a quantizer.
RELUS = (nn.ReLU, nn.ReLU6)
# Python's statements that change a tensor in place, and what gives a new one.
IN_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def name_of(node: fx.Node) -> str:
    """The name of the module or the method that a node calls, or of the tensor that it gets."""
    return cast(str, node.target)


def function_of(node: fx.Node) -> Callable[..., Any]:
    """The function that a node calls."""
    return cast(Callable[..., Any], node.target)


def called(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls; None where it calls none."""
    return graph.get_submodule(name_of(node)) if node.op == "call_module" else None


def kind(graph: fx.GraphModule, node: fx.Node) -> Kind:
    """What a node calls: its module's class, its function or its method's name."""
    module = called(graph, node)
    return node.target if module is None else type(module)


def operator_of(graph: fx.GraphModule, node: fx.Node) -> Operator:
    """The row of the operator that a node calls; ``UNKNOWN``, of which nothing is true, where none has it."""
    if node.op not in CALLS:
        return UNKNOWN
    module = called(graph, node)
    # A class without a row of its own is what it inherits from.
    classes: tuple[Kind, ...] = (node.target,) if module is None else type(module).__mro__
    return next((ROWS[each] for each in classes if each in ROWS), UNKNOWN)


def options(graph: fx.GraphModule, node: fx.Node) -> dict[str, Any]:
    """The options of a node's operator, by name: its module's attributes, or what the node gives beside its input."""
    defaults = operator_of(graph, node).options
    module = called(graph, node)
    if module is not None:
        return {name: getattr(module, name, default) for name, default in defaults.items()}
    given = dict(zip(defaults, node.args[1:], strict=False)) | node.kwargs
    return {name: default if given.get(name) is None else given[name] for name, default in defaults.items()}


def scales(graph: fx.GraphModule, node: fx.Node, axes: int) -> bool:
    """Whether a node keeps the channels of a map over so many axes apart and does f(s·x) = s·f(x) to each, s > 0."""
    row = operator_of(graph, node)
    return row.elementwise or row.within_channels == axes


def clamps(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a ReLU or cuts its input at other constants."""
    return operator_of(graph, node).clamps_between is not None


def clamp_ends(graph: fx.GraphModule, node: fx.Node) -> tuple[float, float] | None:
    """Between what numbers a node clamps its input; None where it does something else, or they are no constants."""
    row, given = operator_of(graph, node), options(graph, node)
    if row.clamps_between is None:
        return None
    low, high = (given[end] if isinstance(end, str) else end for end in row.clamps_between)
    return (low, high) if isinstance(low, int | float) and isinstance(high, int | float) else None


def rectifies(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node is a ReLU, max(x, 0)."""
    return clamp_ends(graph, node) == (0, math.inf)


def moves(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether all that a node gives is on the grid of its input."""
    row = operator_of(graph, node)
    return row.moves(options(graph, node)) if callable(row.moves) else row.moves


def computes(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node that gives a tensor gives values that its input did not have."""
    return node.op not in ("output", "get_attr") and not moves(graph, node)


def flattens_maps(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node makes vectors of maps, [N, C, …] → [N, C · …]."""
    return operator_of(graph, node).flattens and options(graph, node) == {"start_dim": 1, "end_dim": -1}


def gives_several(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node gives several tensors, each of which is taken by its number."""
    return operator_of(graph, node).several and bool(node.users) and all(takes_item(user) for user in node.users)


def takes_item(node: fx.Node) -> bool:
    """Whether a node takes one of several tensors."""
    return node.target is operator.getitem and isinstance(node.args[1], int)


def in_place(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node changes its input; decided for any operator, as torch names such functions and arguments."""
    if node.op == "call_module":
        return getattr(called(graph, node), "inplace", False) is True
    if node.op == "call_method":
        return name_of(node).endswith("_") and not name_of(node).endswith("__")
    if node.op != "call_function":
        return False
    function = function_of(node)
    named = function.__name__.endswith("_") and function.__module__ != operator.add.__module__
    return named or node.target in IN_PLACE or arguments_of(node).get("inplace") is True


def tensor_nodes(graph: fx.GraphModule) -> set[fx.Node]:
    """The nodes that give tensors, or several; not those that give sizes and what is computed from them."""
    found: set[fx.Node] = set()
    for node in graph.graph.nodes:
        calls = node.op in CALLS and not operator_of(graph, node).asks
        used = node.op == "placeholder" and node.users and not node.args  # one with a default keeps it
        if used or (calls and any(each in found for each in node.all_input_nodes)):
            found.add(node)
    return found


def whole_nodes(graph: fx.GraphModule) -> set[fx.Node]:
    """The nodes of which is known that their tensors hold no floats: comparisons, indices, and what is made of them."""
    found: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            tensor = operator.attrgetter(node.target)(graph)
            whole = isinstance(tensor, torch.Tensor) and not tensor.is_floating_point()
        else:
            whole = node.op in CALLS and _gives_whole(graph, node, found)
        if whole:
            found.add(node)
    return found


def _gives_whole(graph: fx.GraphModule, node: fx.Node, whole: set[fx.Node]) -> bool:
    """Whether a call gives whole numbers, where ``whole`` of the nodes before it do."""
    row, before = operator_of(graph, node), node.all_input_nodes
    given = (*node.args, *node.kwargs.values())
    if kinds := [each for each in given if isinstance(each, torch.dtype)]:
        return not kinds[0].is_floating_point
    if takes_item(node) and before[0].op in CALLS and kind(graph, before[0]) in GIVE_INDICES:
        return bool(node.args[1] == 1)
    if row.arithmetic:
        before = before if node.target not in DIVISIONS and not any(isinstance(each, float) for each in given) else []
    elif moves(graph, node):
        before = before[:1] if node.target != "float" else []
    elif not row.joins:
        return row.counts or node.target is torch.arange
    return bool(before) and all(each in whole for each in before)


def arguments_of(node: fx.Node) -> Mapping[str, Any]:
    """What a function is given, by name; of one without a signature only what is given by name."""
    try:
        return inspect.signature(function_of(node)).bind(*node.args, **node.kwargs).arguments
    except (TypeError, ValueError):
        return node.kwargs
