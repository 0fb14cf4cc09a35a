"""A call of every operator of zeroq.graph.operators: a graph of one node, and what to give it."""

import operator
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from zeroq.graph import operators
from zeroq.graph.operator_rows import OPERATORS, Kind

# What a kind is called with behind its input (a class: what it is made with), where it needs something.
ALL = torch.ones(1, dtype=torch.bool)
ARGUMENTS = {
    **dict.fromkeys([nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d], (3, 2, 1)),
    **dict.fromkeys([functional.max_pool1d, functional.max_pool2d, torch.max_pool2d, functional.max_pool3d], (3, 2, 1)),
    **dict.fromkeys([functional.avg_pool2d], (3, 2, 1)),
    **dict.fromkeys([nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d], (2,)),
    **dict.fromkeys([functional.adaptive_max_pool1d, functional.adaptive_max_pool2d], (2,)),
    **dict.fromkeys([functional.adaptive_avg_pool1d, functional.adaptive_avg_pool2d], (2,)),
    functional.avg_pool1d: (3, 2, 1),
    **dict.fromkeys([nn.ZeroPad1d, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d], (1,)),
    functional.pad: ((1, 1),),
    nn.Upsample: (None, 2),
    nn.UpsamplingNearest2d: (None, 2),
    nn.UpsamplingBilinear2d: (None, 2),
    functional.interpolate: (None, 2),
    functional.dropout: (0.5, False),
    **dict.fromkeys([nn.Softmax, torch.softmax, functional.softmax, "softmax"], (1,)),
    **dict.fromkeys([nn.LogSoftmax, torch.log_softmax, functional.log_softmax, "log_softmax"], (1,)),
    **dict.fromkeys([torch.clamp, torch.clip, "clamp", "clip"], (-1, 2)),
    **dict.fromkeys([torch.clamp_min, "clamp_min"], (-1,)),
    **dict.fromkeys([torch.clamp_max, "clamp_max"], (2,)),
    **dict.fromkeys([torch.prelu, "prelu"], (torch.full((1,), 0.1),)),
    **dict.fromkeys([nn.Threshold, functional.threshold], (0.5, 1.0)),
    **dict.fromkeys([operator.pow, torch.pow, "pow"], (2,)),
    **dict.fromkeys([operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne], (0.5,)),
    **dict.fromkeys([torch.gt, torch.ge, torch.lt, torch.le, torch.eq, torch.ne], (0.5,)),
    **dict.fromkeys(["gt", "ge", "lt", "le", "eq", "ne"], (0.5,)),
    torch.where: (0.5,),
    **dict.fromkeys(["where", "masked_fill"], (ALL, 0.5)),
    **dict.fromkeys([torch.mean, torch.sum, "mean", "sum"], ((2, 3), True)),
    **dict.fromkeys([torch.amax, torch.amin, "amax", "amin"], (1,)),
    **dict.fromkeys([nn.LayerNorm, nn.RMSNorm, functional.layer_norm, functional.rms_norm], ((6,),)),
    nn.GroupNorm: (2, 4),
    functional.group_norm: (2,),
    **dict.fromkeys([nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d], (4,)),
    torch.full_like: (0.5,),
    **dict.fromkeys(["new_zeros", "new_ones"], ((2,),)),
    "new_full": ((2,), 0.5),
    **dict.fromkeys([nn.Unflatten, torch.unflatten, "unflatten"], (1, (2, 2))),
    **dict.fromkeys([torch.flatten, "flatten"], (1,)),
    torch.reshape: ((2, -1),),
    **dict.fromkeys(["reshape", "view"], (2, -1)),
    **dict.fromkeys([torch.squeeze, torch.unsqueeze, "squeeze", "unsqueeze"], (1,)),
    **dict.fromkeys([torch.transpose, torch.movedim, torch.swapaxes, "transpose", "movedim", "swapaxes"], (1, 2)),
    **dict.fromkeys([torch.permute, "permute"], ((0, 2, 3, 1),)),
    **dict.fromkeys([torch.flip, "flip"], ((1,),)),
    **dict.fromkeys([torch.roll, "roll"], (1, 1)),
    **dict.fromkeys([nn.ChannelShuffle, torch.channel_shuffle], (2,)),
    **dict.fromkeys([nn.PixelShuffle, torch.pixel_shuffle, nn.PixelUnshuffle], (2,)),
    operator.getitem: ((slice(None), slice(1, 3)),),
    **dict.fromkeys([torch.narrow, "narrow"], (1, 1, 2)),
    **dict.fromkeys([torch.select, "select"], (1, 1)),
    **dict.fromkeys([torch.index_select, "index_select"], (1, torch.tensor([2, 0]))),
    **dict.fromkeys([torch.gather, "gather"], (1, torch.tensor([2, 0]).view(1, 2, 1, 1).expand(2, 2, 6, 6))),
    **dict.fromkeys([torch.repeat_interleave, "repeat_interleave"], (2, 1)),
    torch.tile: ((2, 1),),
    "tile": (2, 1),
    **dict.fromkeys([torch.chunk, torch.split, "chunk", "split"], (2, 1)),
    **dict.fromkeys([torch.max, torch.min, "max", "min", torch.topk, "topk"], (2,)),
    **dict.fromkeys(["expand", "repeat"], (2, 4, 6, 6)),
    "to": (torch.float64,),
    getattr: ("shape",),
    torch.bucketize: (torch.arange(4.0),),
    functional.max_pool1d_with_indices: (3, 2, 1),
    functional.max_pool2d_with_indices: (3, 2, 1),
    functional.max_pool3d_with_indices: (3, 2, 1),
}
# Those that take no floats.
OF_WHOLE = {operator.and_, operator.or_, operator.xor, operator.invert, functional.one_hot}
# Of the map that a kind takes, where its row does not say.
AXES = {
    **{nn.Dropout1d: 1, nn.Dropout3d: 3, nn.InstanceNorm1d: 1, nn.InstanceNorm3d: 3},
    **{functional.max_pool1d_with_indices: 1, functional.max_pool3d_with_indices: 3},
}
# What stands in front of the input.
BEFORE = {torch.where: (ALL,), torch.einsum: ("ncij,ncjk->ncik",)}
# Those that take a second tensor, where their row does not say.
TWICE = (
    *("expand_as", "reshape_as", "view_as", "type_as", "logical_and", "logical_or", "logical_xor"),
    *(torch.logical_and, torch.logical_or, torch.logical_xor),
)


def a_call(kind: Kind, *arguments, **named) -> tuple[fx.GraphModule, fx.Node]:
    """A graph of one node, and the node; a class is made with the arguments, and all else called with them."""
    graph, root = fx.Graph(), nn.Module()
    given = graph.placeholder("given")

    def constant(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        name = f"constant_{len(graph.nodes)}"
        root.register_buffer(name, value)
        return graph.get_attr(name)

    before, behind = ([constant(each) for each in some] for some in (BEFORE.get(kind, ()), arguments))
    row = operators.ROWS.get(kind, operators.UNKNOWN)
    two = row.adds or row.subtracts or row.multiplies or row.divides or row.contracts or kind in TWICE
    tensors = 3 if row.attends else 2 if two else 1
    if isinstance(kind, type):
        root.clamp = kind(*arguments, **named)  # a name that says nothing
        node = graph.call_module("clamp", (given,))
    elif isinstance(kind, str):
        others = (given,) * (tensors - 1)
        node = graph.call_method(kind, (given, *others, *behind), named)
    else:
        inputs = ([given, given],) if row.joins else (given,) * tensors
        node = graph.call_function(kind, (*before, *inputs, *behind), named)
    graph.output(node)
    return fx.GraphModule(root, graph).eval(), node


def example(kind: Kind) -> tuple[fx.GraphModule, fx.Node]:
    return a_call(kind, *ARGUMENTS.get(kind, ()))


def values(kind: Kind | None = None) -> torch.Tensor:
    """Random input of a kind, some of it beyond what any clamps: [2, 4, 6, …]."""
    axes = operators.ROWS.get(kind, operators.UNKNOWN).within_channels or AXES.get(kind, 2)
    given = 4 * torch.randn(2, 4, *(6,) * axes, generator=torch.Generator().manual_seed(0))
    return given[0] if kind in (torch.bmm, "bmm") else given


EVERY = [(row, kind) for row in OPERATORS for kind in row.kinds if kind not in OF_WHOLE]
CONSTANTS = torch.tensor([-1.0, 0.5, 2.0, 3.5])  # one for each of four channels


def with_property(name: str) -> pytest.MarkDecorator:
    """Every kind of the rows that have a property."""
    some = [pair for pair in EVERY if getattr(pair[0], name) not in (False, None)]
    return pytest.mark.parametrize(("row", "kind"), some, ids=[getattr(kind, "__name__", kind) for _, kind in some])


def compute(graph: fx.GraphModule, given: torch.Tensor) -> torch.Tensor:
    """All that an operator gives, as one tensor."""
    outputs = tree_leaves(graph(given.clone()))
    return outputs[0] if len(outputs) == 1 else torch.cat([each.flatten() for each in outputs])


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, atol=1e-5)
