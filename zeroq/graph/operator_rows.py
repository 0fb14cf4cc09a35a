"""What an operator of a traced network does: one row an operator."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

Kind = type | Callable[..., Any] | str


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
