"""Placement ``integer``: on the traced graph, a quantizer wherever an integer runtime keeps a tensor quantized."""

import operator
from collections.abc import Callable

import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.graph.patterns import clamps, kind
from zeroq.layers import WEIGHTED_LAYERS
from zeroq.modules import holds_statistics

# The submodule of a graph that holds its quantizers, each under the name of the node behind which it stands.
HOLDER = "activation_quantizers"
# What gives values that are on its input's grid already: it moves values, takes the largest, or puts zeros between.
MOVING = (
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Flatten, nn.Unflatten),
    *(nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle, nn.UpsamplingNearest2d, nn.ZeroPad1d, nn.ZeroPad2d),
    *(nn.ReLU, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
    *(nn.ReflectionPad2d, nn.ReplicationPad2d, torch.relu_, torch.flip, torch.movedim, torch.swapaxes, torch.unbind),
    *("flip", "movedim", "swapaxes", "unbind"),
    *(functional.dropout, functional.relu, functional.channel_shuffle, functional.pixel_shuffle),
    *(functional.max_pool1d, functional.max_pool2d, functional.max_pool3d, functional.adaptive_max_pool2d),
    *(torch.relu, torch.max_pool2d, torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze),
    *(torch.unsqueeze, torch.chunk, torch.split, torch.narrow, torch.clone, torch.roll, torch.channel_shuffle),
    *(torch.pixel_shuffle, operator.getitem),
    *("relu", "relu_", "flatten", "view", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "chunk", "split"),
    *("narrow", "expand", "expand_as", "repeat", "contiguous", "clone", "detach", "to", "float", "roll"),
)
# What gives several tensors, of which each is taken by its number.
SEVERAL = (torch.max, torch.min, torch.sort, torch.topk, torch.std_mean, torch.var_mean, torch.unbind)
SEVERAL += ("max", "min", "sort", "topk", "unbind")
# What makes probabilities of scores.
SCORING = (nn.Softmax, nn.LogSoftmax, nn.Sigmoid, torch.softmax, torch.log_softmax, torch.sigmoid)
SCORING += (functional.softmax, functional.log_softmax, functional.sigmoid, "softmax", "log_softmax", "sigmoid")
JOINING = (torch.cat, torch.concat, torch.stack)
NEAREST = ("nearest", "nearest-exact")
# What asks a tensor for something that is no tensor.
ASKING = ("size", "dim", "numel", "stride")


def place_quantizers(graph: fx.GraphModule, quantizer: Callable[[], nn.Module]) -> None:
    """Put a quantizer behind everything that computes: image, convolutions, sums, concatenations, pools, activations.

    Of what one kernel computes, a layer with its BatchNorm and its ReLU, only the end is quantized. What moves values
    or takes their largest keeps its input's grid and needs none. What only leads to the network's outputs stays float:
    scores of distilled images are far closer together than those of real ones, so that their range would cut off just
    the scores that decide. Changes the graph in place; ``quantizer`` makes one.
    """
    separate_activations(graph)
    tensors = tensor_nodes(graph)
    ends = [fused_end(graph, node) for node in graph.graph.nodes if node in tensors and computes(graph, node)]
    for node in dict.fromkeys(ends):
        if only_leads_out(graph, node) or gives_several(node):
            continue
        name = f"{HOLDER}.{node.name}"
        graph.add_submodule(name, quantizer())
        with graph.graph.inserting_after(node):
            quantized = graph.graph.call_module(name, (node,))
        node.replace_all_uses_with(quantized, delete_user_cb=lambda user, own=quantized: user is not own)
    graph.graph.lint()
    graph.recompile()


def separate_activations(graph: fx.GraphModule) -> None:
    """Make the activation of timm's BatchNormAct2d a node of its own, which need not be one of those that kernels fuse.

    Changes the graph in place.
    """
    activations: dict[str, str] = {}  # by the norm's name
    for node in list(graph.graph.nodes):
        module = graph.get_submodule(node.target) if node.op == "call_module" else None
        if module is None or not holds_statistics(module):
            continue
        activation = getattr(module, "act", None)
        if isinstance(activation, nn.Module) and not isinstance(activation, nn.Identity):
            module.act = nn.Identity()
            activations[node.target] = f"{node.target}_act"
            graph.add_submodule(activations[node.target], activation)
        if node.target in activations:
            with graph.graph.inserting_after(node):
                separate = graph.graph.call_module(activations[node.target], (node,))
            node.replace_all_uses_with(separate, delete_user_cb=lambda user, own=separate: user is not own)


def tensor_nodes(graph: fx.GraphModule) -> set[fx.Node]:
    """The nodes that give tensors, or several; not those that give sizes and what is computed from them."""
    found: set[fx.Node] = set()
    for node in graph.graph.nodes:
        calls = node.op in ("call_module", "call_function", "call_method") and not _asks(node)
        used = node.op == "placeholder" and node.users and not node.args  # one with a default keeps it
        if used or (calls and any(each in found for each in node.all_input_nodes)):
            found.add(node)
    return found


def computes(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node that gives a tensor gives values that its input did not have."""
    return node.op not in ("output", "get_attr") and not moves(graph, node)


def moves(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether all that a node gives is on the grid of its input."""
    module = graph.get_submodule(node.target) if node.op == "call_module" else None
    if isinstance(module, nn.Upsample):
        return module.mode in NEAREST
    if node.target is functional.interpolate:
        return (node.args[3] if len(node.args) > 3 else node.kwargs.get("mode", "nearest")) in NEAREST
    if node.target is functional.pad:
        rest = dict(zip(("mode", "value"), node.args[2:], strict=False)) | node.kwargs
        return rest.get("mode", "constant") != "constant" or not rest.get("value")
    return isinstance(module, MOVING_MODULES) if module is not None else node.target in MOVING


def fused_end(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The last node of the kernel that a computing node begins: behind its BatchNorm and its clamping activation."""
    norm = _only_user(node) if _is_module(graph, node, WEIGHTED_LAYERS) else None
    if norm is not None and norm.op == "call_module" and holds_statistics(graph.get_submodule(norm.target)):
        node = norm
    if node.op != "placeholder" and (activation := _only_user(node)) is not None and clamps(graph, activation):
        return activation
    return node


def _scores(graph: fx.GraphModule, node: fx.Node) -> bool:
    return kind(graph, node) in SCORING


def _asks(node: fx.Node) -> bool:
    """Whether a node asks a tensor for its size or the like."""
    return node.target in ASKING if node.op == "call_method" else node.target in (getattr, len)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def gives_several(node: fx.Node) -> bool:
    """Whether a node gives several tensors, each of which is taken by its number."""
    return node.target in SEVERAL and bool(node.users) and all(takes_item(user) for user in node.users)


def takes_item(node: fx.Node) -> bool:
    """Whether a node takes one of several tensors."""
    return node.target is operator.getitem and isinstance(node.args[1], int)


def only_leads_out(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a tensor is only moved, joined and made probabilities of on its way to the network's outputs."""
    return all(
        user.op == "output"
        or _asks(user)
        or ((user.target in JOINING or _scores(graph, user) or moves(graph, user)) and only_leads_out(graph, user))
        for user in node.users
    )


def _is_module(graph: fx.GraphModule, node: fx.Node, kinds: type | tuple[type, ...]) -> bool:
    return node.op == "call_module" and isinstance(graph.get_submodule(node.target), kinds)


MOVING_MODULES = tuple(each for each in MOVING if isinstance(each, type))
