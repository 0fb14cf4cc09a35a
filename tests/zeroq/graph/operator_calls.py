"""A call of every operator of zeroq.graph.operators: a graph of one node, and what to give it."""

import operator

import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.graph import operators
from zeroq.graph.operators import Kind

# What a kind is called with behind its input (a class: what it is made with), where it needs something.
ARGUMENTS = {
    **dict.fromkeys([nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d], (3, 2, 1)),
    **dict.fromkeys([functional.max_pool1d, functional.max_pool2d, torch.max_pool2d, functional.max_pool3d], (3, 2, 1)),
    **dict.fromkeys([functional.avg_pool2d], (3, 2, 1)),
    **dict.fromkeys([nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d], (2,)),
    **dict.fromkeys([functional.adaptive_max_pool2d, functional.adaptive_avg_pool2d], (2,)),
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
    **dict.fromkeys([torch.mean, "mean"], ((2, 3), True)),
    nn.Unflatten: (1, (2, 2)),
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
    **dict.fromkeys([torch.chunk, torch.split, "chunk", "split"], (2, 1)),
    **dict.fromkeys([torch.max, torch.min, "max", "min", torch.topk, "topk"], (2,)),
    **dict.fromkeys(["expand", "repeat"], (2, 4, 6, 6)),
    "to": (torch.float64,),
    getattr: ("shape",),
    **dict.fromkeys([operator.pow, torch.pow, "pow"], (2,)),
    functional.max_pool1d_with_indices: (3, 2, 1),
    functional.max_pool2d_with_indices: (3, 2, 1),
    functional.max_pool3d_with_indices: (3, 2, 1),
}
# Those that take no floats, or a tensor of constants.
OF_WHOLE = {operator.and_, operator.or_, operator.xor, operator.invert, functional.one_hot, torch.bucketize}
# Those that compare two tensors, or are of truth values.
OF_TWO = {
    *(operator.sub, operator.mul, operator.truediv, torch.sub, torch.mul, torch.div, "sub", "mul", "div"),
    *(operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne),
    *(torch.lt, torch.le, torch.gt, torch.ge, torch.eq, torch.ne, "lt", "le", "gt", "ge", "eq", "ne"),
    *(torch.logical_and, torch.logical_or, torch.logical_xor, "logical_and", "logical_or", "logical_xor"),
}
# Of the map that a kind takes, where its row does not say.
AXES = {
    **{nn.Dropout1d: 1, nn.Dropout3d: 3},
    **{functional.max_pool1d_with_indices: 1, functional.max_pool3d_with_indices: 3},
}


def a_call(kind: Kind, *arguments, **named) -> tuple[fx.GraphModule, fx.Node]:
    """A graph of one node, and the node; a class is made with the arguments, and all else called with them."""
    graph, root = fx.Graph(), nn.Module()
    given = graph.placeholder("given")
    row = operators.ROWS.get(kind, operators.UNKNOWN)
    if isinstance(kind, type):
        root.clamp = kind(*arguments, **named)  # a name that says nothing
        node = graph.call_module("clamp", (given,))
    elif isinstance(kind, str):
        others = (given,) if row.adds or kind in (*OF_TWO, "expand_as") else ()
        node = graph.call_method(kind, (given, *others, *arguments), named)
    else:
        inputs = ([given, given],) if row.joins else (given, given) if row.adds or kind in OF_TWO else (given,)
        node = graph.call_function(kind, (*inputs, *arguments), named)
    graph.output(node)
    return fx.GraphModule(root, graph).eval(), node


def example(kind: Kind) -> tuple[fx.GraphModule, fx.Node]:
    return a_call(kind, *ARGUMENTS.get(kind, ()))


def values(kind: Kind | None = None) -> torch.Tensor:
    """Random input of a kind, some of it beyond what any clamps: [2, 4, 6, …]."""
    axes = operators.ROWS.get(kind, operators.UNKNOWN).within_channels or AXES.get(kind, 2)
    return 4 * torch.randn(2, 4, *(6,) * axes, generator=torch.Generator().manual_seed(0))
