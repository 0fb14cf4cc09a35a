"""What an operator of a traced network does: one row an operator, and below the questions about a node of a graph."""

import inspect
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional

Kind = type | Callable | str


@dataclass(frozen=True)
class Operator:
    """One operator, and what is true of it in evaluation mode; what a row does not say is taken as untrue.

    ``kinds`` are the module classes, functions and tensors' methods that are this operator, and ``options`` their
    arguments behind the input, in order, with defaults: those that a property below depends on.
    """

    kinds: tuple[Kind, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    # It does the same to every value, and f(s·x) = s·f(x) for s > 0.
    elementwise: bool = False
    # It works within each channel of a map with so many spatial axes, and f(s·x) = s·f(x) for s > 0.
    within_channels: int | None = None
    # f(x + c) = f(x) + c, where c is one constant for each channel.
    shifts: bool = False
    # It cuts its input at two constants: numbers, or the options that hold them. Runtimes compute it in one kernel
    # with the layer or the sum before it.
    clamps_between: tuple[float | str, float | str] | None = None
    # What it gives is on its input's grid: it moves values, takes the largest or puts zeros between. A function where
    # that depends on the options.
    moves: bool | Callable[[Mapping[str, Any]], bool] = False
    # It does the same to means, standard deviations and ends of ranges as to values, where values rise and fall alike.
    passes_moments: bool = False
    # What it gives at a place depends on its inputs at that place alone.
    pointwise: bool = False
    adds: bool = False  # two tensors, or a tensor and a number
    subtracts: bool = False  # likewise
    multiplies: bool = False  # likewise
    divides: bool = False  # likewise
    contracts: bool = False  # two tensors: it sums products of their values, as matrices are multiplied
    # It gives mean 0 and deviation 1 over some axes, times weights and plus biases, which lie along the channels (axis
    # 1) or along the last axes.
    normalizes: Literal["channels", "last"] | None = None
    weighs: bool = False  # it gives weights of 0 and more that sum to 1 along an axis
    attends: bool = False  # it gives means of its third input's rows (axis -2), with such weights
    fills: bool = False  # it gives constants, whatever values it is given
    joins: bool = False  # several tensors to one, values unchanged
    flattens: bool = False  # the axes start_dim … end_dim to one
    several: bool = False  # it may give several tensors, each of which is taken by its number
    scores: bool = False  # it makes probabilities of scores
    asks: bool = False  # for a size or the like, which is no tensor
    shares_memory: bool = False  # what it gives may be a view of its input
    counts: bool = False  # it gives truth values, indices or other whole numbers, which no grid holds
    arithmetic: bool = False  # + − · / of two tensors, or of a tensor and a number
    # The place of an argument whose small changes may change all: a divisor, what a root or a logarithm is taken of.
    exacting: int | None = None


def _nearest(options: Mapping[str, Any]) -> bool:
    return options["mode"] in ("nearest", "nearest-exact")


def _pads_with_own_values(options: Mapping[str, Any]) -> bool:
    """Or with zeros, which every grid has."""
    return options["mode"] != "constant" or not options["value"]


OPERATORS = (
    Operator(
        (nn.Identity, "contiguous", "detach"),
        elementwise=True,
        shifts=True,
        moves=True,
        shares_memory=True,
        passes_moments=True,
    ),
    Operator((torch.clone, "clone"), elementwise=True, shifts=True, moves=True, passes_moments=True),
    Operator(
        (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, functional.dropout),
        elementwise=True,
        shifts=True,
        moves=True,
        shares_memory=True,
        passes_moments=True,
    ),
    # Activations.
    Operator(
        (nn.ReLU, functional.relu, torch.relu, "relu"),
        elementwise=True,
        moves=True,
        clamps_between=(0, math.inf),
    ),
    Operator((nn.ReLU6, functional.relu6), clamps_between=(0, 6)),
    Operator(
        (nn.Hardtanh, functional.hardtanh),
        {"min_val": -1, "max_val": 1},
        clamps_between=("min_val", "max_val"),
    ),
    Operator(
        (torch.clamp, torch.clip, "clamp", "clip"),
        {"min": -math.inf, "max": math.inf},
        clamps_between=("min", "max"),
        pointwise=True,
    ),
    Operator(
        (torch.clamp_min, "clamp_min"),
        {"min": -math.inf},
        clamps_between=("min", math.inf),
        pointwise=True,
    ),
    Operator((torch.clamp_max, "clamp_max"), pointwise=True),
    Operator((nn.LeakyReLU, functional.leaky_relu), elementwise=True, pointwise=True),
    Operator((nn.PReLU, torch.prelu, "prelu"), elementwise=True, pointwise=True),
    Operator((nn.Softmax, torch.softmax, functional.softmax, "softmax"), scores=True, weighs=True),
    Operator((nn.LogSoftmax, torch.log_softmax, functional.log_softmax, "log_softmax"), scores=True),
    Operator((nn.Sigmoid, torch.sigmoid, functional.sigmoid, "sigmoid"), scores=True, pointwise=True),
    Operator(
        (
            *(nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.GELU, nn.Mish, nn.ELU, nn.SELU, nn.CELU, nn.Softplus),
            *(nn.Tanh, nn.Softsign, nn.Tanhshrink, nn.LogSigmoid, nn.Hardshrink, nn.Softshrink, nn.Threshold),
            *(functional.silu, functional.hardswish, functional.hardsigmoid, functional.gelu, functional.mish),
            *(functional.elu, functional.selu, functional.celu, functional.softplus, functional.tanh),
            *(functional.softsign, functional.tanhshrink, functional.logsigmoid, functional.hardshrink),
            *(functional.softshrink, functional.threshold),
        ),
        pointwise=True,
    ),
    # Pools.
    Operator((nn.MaxPool1d, functional.max_pool1d), within_channels=1, shifts=True, moves=True, passes_moments=True),
    Operator(
        (nn.MaxPool2d, functional.max_pool2d, torch.max_pool2d),
        within_channels=2,
        shifts=True,
        moves=True,
        passes_moments=True,
    ),
    Operator((nn.MaxPool3d, functional.max_pool3d), within_channels=3, shifts=True, moves=True, passes_moments=True),
    Operator(
        (nn.AdaptiveMaxPool1d, functional.adaptive_max_pool1d),
        within_channels=1,
        shifts=True,
        moves=True,
        passes_moments=True,
    ),
    Operator(
        (nn.AdaptiveMaxPool2d, functional.adaptive_max_pool2d),
        within_channels=2,
        shifts=True,
        moves=True,
        passes_moments=True,
    ),
    # Their zero padding does not shift.
    Operator((nn.AvgPool1d, functional.avg_pool1d), within_channels=1, passes_moments=True),
    Operator((nn.AvgPool2d, functional.avg_pool2d), within_channels=2, passes_moments=True),
    Operator(
        (nn.AdaptiveAvgPool2d, functional.adaptive_avg_pool2d), within_channels=2, shifts=True, passes_moments=True
    ),
    Operator(
        (nn.AdaptiveAvgPool1d, functional.adaptive_avg_pool1d), within_channels=1, shifts=True, passes_moments=True
    ),
    Operator((torch.mean, torch.sum, "mean", "sum"), passes_moments=True),
    Operator((torch.amax, torch.amin, "amax", "amin"), moves=True, passes_moments=True),
    # What makes maps larger.
    Operator((nn.ZeroPad1d,), within_channels=1, moves=True, passes_moments=True),
    Operator((nn.ZeroPad2d,), within_channels=2, moves=True, passes_moments=True),
    Operator(
        (nn.ReflectionPad2d, nn.ReplicationPad2d), within_channels=2, shifts=True, moves=True, passes_moments=True
    ),
    # Of any axes, channels too.
    Operator(
        (functional.pad,),
        {"pad": None, "mode": "constant", "value": None},
        moves=_pads_with_own_values,
        passes_moments=True,
    ),
    Operator(
        (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, functional.interpolate),
        {"size": None, "scale_factor": None, "mode": "nearest"},
        within_channels=2,
        shifts=True,
        moves=_nearest,
        passes_moments=True,
    ),
    Operator(("expand", "expand_as"), moves=True, shares_memory=True, passes_moments=True),
    Operator((torch.tile, "repeat", "tile"), moves=True, passes_moments=True),
    Operator((torch.repeat_interleave, "repeat_interleave"), moves=True, passes_moments=True),
    # What puts values elsewhere.
    Operator(
        (nn.Flatten, torch.flatten, "flatten"),
        {"start_dim": 0, "end_dim": -1},
        flattens=True,
        shifts=True,
        moves=True,
        shares_memory=True,
        passes_moments=True,
    ),
    Operator(
        (nn.Unflatten, torch.reshape, torch.unflatten, "reshape", "view", "unflatten", "reshape_as", "view_as"),
        moves=True,
        shares_memory=True,
        passes_moments=True,
    ),
    Operator(
        (torch.squeeze, torch.unsqueeze, "squeeze", "unsqueeze"), moves=True, shares_memory=True, passes_moments=True
    ),
    Operator(
        (
            *(torch.transpose, torch.permute, torch.movedim, torch.swapaxes),
            *("transpose", "permute", "movedim", "swapaxes"),
        ),
        moves=True,
        shares_memory=True,
        passes_moments=True,
    ),
    Operator((torch.flip, torch.roll, "flip", "roll"), moves=True, passes_moments=True),
    Operator((nn.ChannelShuffle, torch.channel_shuffle), moves=True, passes_moments=True),
    Operator((nn.PixelShuffle, torch.pixel_shuffle), moves=True, passes_moments=True),
    Operator((nn.PixelUnshuffle,), moves=True, passes_moments=True),
    Operator(
        (operator.getitem, torch.narrow, torch.select, "narrow", "select"),
        moves=True,
        shares_memory=True,
        passes_moments=True,
    ),
    Operator((torch.index_select, torch.gather, "index_select", "gather"), moves=True, passes_moments=True),
    Operator(
        (torch.chunk, torch.split, torch.unbind, "chunk", "split", "unbind"),
        moves=True,
        shares_memory=True,
        passes_moments=True,
        several=True,
    ),
    Operator((torch.cat, torch.concat, torch.concatenate), joins=True, passes_moments=True),
    Operator((torch.stack,), joins=True, passes_moments=True),
    Operator(("to", "float", "type_as"), moves=True, shares_memory=True, passes_moments=True),
    # Arithmetic.
    Operator((operator.add, torch.add, "add"), adds=True, arithmetic=True, pointwise=True),
    Operator((operator.sub, torch.sub, "sub"), subtracts=True, arithmetic=True, pointwise=True),
    Operator((operator.mul, torch.mul, "mul"), multiplies=True, arithmetic=True, pointwise=True),
    Operator((operator.truediv, torch.div, "div"), divides=True, arithmetic=True, exacting=1, pointwise=True),
    Operator((operator.neg, torch.neg, "neg"), arithmetic=True, elementwise=True, pointwise=True),
    Operator((torch.abs, "abs"), elementwise=True, pointwise=True),
    Operator(
        (
            *(torch.sqrt, torch.rsqrt, torch.reciprocal, torch.exp, torch.expm1),
            *(torch.log, torch.log2, torch.log10, torch.log1p, operator.pow, torch.pow, "pow"),
            *("sqrt", "rsqrt", "reciprocal", "exp", "expm1", "log", "log2", "log10", "log1p"),
        ),
        exacting=0,
        pointwise=True,
    ),
    Operator(
        (
            *(torch.square, torch.tanh, torch.erf, torch.sin, torch.cos, torch.sign),
            *("square", "tanh", "erf", "sin", "cos", "sign", torch.where, "where", "masked_fill"),
        ),
        pointwise=True,
    ),
    Operator((operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm"), contracts=True),
    Operator((torch.einsum,), contracts=True),
    Operator((functional.scaled_dot_product_attention,), attends=True),
    # What normalizes.
    Operator((nn.LayerNorm, nn.RMSNorm), normalizes="last"),
    Operator((functional.layer_norm,), {"normalized_shape": None, "weight": None, "bias": None}, normalizes="last"),
    Operator((functional.rms_norm,), {"normalized_shape": None, "weight": None}, normalizes="last"),
    Operator((nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), normalizes="channels"),
    Operator((functional.group_norm,), {"num_groups": None, "weight": None, "bias": None}, normalizes="channels"),
    # The rest.
    Operator(
        (
            *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
            *(torch.lt, torch.le, torch.gt, torch.ge, torch.eq, torch.ne, "lt", "le", "gt", "ge", "eq", "ne"),
        ),
        counts=True,
        pointwise=True,
    ),
    Operator(
        (
            *(operator.and_, operator.or_, operator.xor, operator.invert),
            *(torch.logical_and, torch.logical_or, torch.logical_xor, torch.logical_not),
            *("logical_and", "logical_or", "logical_xor", "logical_not"),
            *(torch.isnan, torch.isinf, torch.isfinite, "isnan", "isinf", "isfinite"),
            *(torch.argmax, torch.argmin, torch.argsort, "argmax", "argmin", "argsort"),
            *(torch.bucketize, torch.nonzero, functional.one_hot, "nonzero", "bool", "byte", "int", "long", "short"),
        ),
        counts=True,
    ),
    Operator(
        (
            *(functional.max_pool1d_with_indices, functional.max_pool2d_with_indices),
            functional.max_pool3d_with_indices,
        ),
        moves=True,
        several=True,
    ),
    Operator(
        (torch.zeros_like, torch.ones_like, torch.full_like, "new_zeros", "new_ones", "new_full"),
        fills=True,
    ),
    Operator((torch.max, torch.min, "max", "min"), several=True),
    Operator((torch.sort, torch.topk, "sort", "topk"), several=True),
    Operator((torch.std_mean, torch.var_mean), several=True),
    Operator((getattr, len, "size", "dim", "numel", "stride"), asks=True),
)
ROWS = {kind: row for row in OPERATORS for kind in row.kinds}
UNKNOWN = Operator(())
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


def called(graph: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that a node calls; None where it calls none."""
    return graph.get_submodule(node.target) if node.op == "call_module" else None


def kind(graph: fx.GraphModule, node: fx.Node) -> Kind:
    """What a node calls: its module's class, its function or its method's name."""
    module = called(graph, node)
    return node.target if module is None else type(module)


def operator_of(graph: fx.GraphModule, node: fx.Node) -> Operator:
    """The row of the operator that a node calls; ``UNKNOWN``, of which nothing is true, where none has it."""
    if node.op not in CALLS:
        return UNKNOWN
    what = kind(graph, node)
    # A class without a row of its own is what it inherits from.
    classes = what.__mro__ if node.op == "call_module" else (what,)
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
    ends = tuple(given[end] if isinstance(end, str) else end for end in row.clamps_between or ())
    return ends if ends and all(isinstance(end, int | float) for end in ends) else None


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
        return node.target.endswith("_") and not node.target.endswith("__")
    if node.op != "call_function":
        return False
    named = node.target.__name__.endswith("_") and node.target.__module__ != operator.add.__module__
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
        return node.args[1] == 1
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
        return inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments
    except (TypeError, ValueError):
        return node.kwargs
