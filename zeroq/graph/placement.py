"""Placement ``integer``: on the traced graph, a quantizer wherever an integer runtime keeps a tensor quantized."""

from collections.abc import Callable

from torch import fx, nn

from zeroq.graph.operators import called, clamps, computes, gives_several, moves, operator_of, tensor_nodes, whole_nodes
from zeroq.layers import WEIGHTED_LAYERS
from zeroq.modules import holds_statistics

# The submodule of a graph that holds its quantizers, each under the name of the node behind which it stands.
HOLDER = "activation_quantizers"


def place_quantizers(graph: fx.GraphModule, quantizer: Callable[[], nn.Module]) -> None:
    """Put a quantizer behind everything that computes: image, convolutions, sums, concatenations, pools, activations.

    Of what one kernel computes, a layer with its BatchNorm and its ReLU, only the end is quantized. What moves values
    or takes their largest keeps its input's grid and needs none. What only leads to the network's outputs stays float:
    scores of distilled images are far closer together than those of real ones, so that their range would cut off just
    the scores that decide. So do divisors and what roots, logarithms and exponentials are taken of, which a grid might
    bring to 0, and whole numbers. Changes the graph in place; ``quantizer`` makes one.
    """
    separate_activations(graph)
    tensors = tensor_nodes(graph) - whole_nodes(graph)
    ends = [fused_end(graph, node) for node in graph.graph.nodes if node in tensors and computes(graph, node)]
    for node in dict.fromkeys(ends):
        if only_leads_out(graph, node) or is_exacting(graph, node) or gives_several(graph, node):
            continue
        name = f"{HOLDER}.{node.name}"
        graph.add_submodule(name, quantizer())
        insert_behind(graph, node, name)
    graph.graph.lint()
    graph.recompile()


def separate_activations(graph: fx.GraphModule) -> None:
    """Make the activation of timm's BatchNormAct2d a node of its own, which need not be one of those that kernels fuse.

    Changes the graph in place.
    """
    activations: dict[str, str] = {}  # by the norm's name
    for node in list(graph.graph.nodes):
        module = called(graph, node)
        if module is None or not holds_statistics(module):
            continue
        activation = getattr(module, "act", None)
        if isinstance(activation, nn.Module) and not isinstance(activation, nn.Identity):
            module.act = nn.Identity()
            activations[node.target] = f"{node.target}_act"
            graph.add_submodule(activations[node.target], activation)
        if node.target in activations:
            insert_behind(graph, node, activations[node.target])


def insert_behind(graph: fx.GraphModule, node: fx.Node, name: str) -> fx.Node:
    """Call the submodule ``name`` with what a node gives, and hand its output to all that used the node's."""
    with graph.graph.inserting_after(node):
        call = graph.graph.call_module(name, (node,))
    node.replace_all_uses_with(call, delete_user_cb=lambda user: user is not call)
    return call


def remove_quantizer(graph: fx.GraphModule, name: str) -> None:
    """Take out the quantizer that ``place_quantizers`` put into the graph as the submodule ``name``."""
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and node.target == name:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.delete_submodule(name)
    graph.recompile()


def fused_end(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The last node of the kernel that a computing node begins: behind its BatchNorm and its clamping activation."""
    norm = only_user(node) if isinstance(called(graph, node), WEIGHTED_LAYERS) else None
    if norm is not None and norm.op == "call_module" and holds_statistics(called(graph, norm)):
        node = norm
    return node if node.op == "placeholder" else clamped_end(graph, node)


def clamped_end(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The clamping activation that alone uses what a node gives, or the node itself."""
    user = only_user(node)
    return user if user is not None and clamps(graph, user) else node


def only_user(node: fx.Node) -> fx.Node | None:
    """The one node that uses what a node gives; None where there are several or none."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def only_leads_out(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether all that becomes of a tensor on its way to the outputs is moved, joined, arithmetic or probabilities."""
    return all(
        user.op == "output"
        or (row := operator_of(graph, user)).asks
        or ((row.joins or row.scores or row.arithmetic or moves(graph, user)) and only_leads_out(graph, user))
        for user in node.users
    )


def is_exacting(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether something divides by what a node gives, or takes its root, logarithm or exponential, or those of more."""
    for user in node.users:
        place = operator_of(graph, user).exacting
        if place is not None and user.args[place : place + 1] == (node,):
            return True
        alone = user.all_input_nodes == [node] and (operator_of(graph, user).arithmetic or clamps(graph, user))
        if alone and is_exacting(graph, user):
            return True
    return False
