"""ReLU in place of ReLU6, which scales with its input (Nagel et al. 2019)."""

from torch import fx, nn
from torch.nn import functional

from zeroq.graph.operators import called, clamp_ends, clamps, operator_of
from zeroq.graph.patterns import calls_of
from zeroq.layers import WEIGHTED_LAYERS
from zeroq.modules import holds_statistics


def replace_relu6(graph: fx.GraphModule) -> fx.GraphModule:
    """ReLU for every ReLU6 and clamp to 0…6 behind a layer: equal where nothing exceeds 6, and unlike those it scales.

    One behind anything else, as in a hard swish, stays. Changes the graph in place and returns it.
    """
    for node in list(graph.graph.nodes):
        if clamp_ends(graph, node) != (0, 6):
            continue
        if node.op == "call_module":
            if all(_follows_layer(graph, call) for call in calls_of(graph, node.target)):
                graph.set_submodule(node.target, nn.ReLU())
        elif _follows_layer(graph, node):
            given = node.args[:1] or (node.kwargs["input"],)
            with graph.graph.inserting_before(node):
                relu = graph.graph.call_function(functional.relu, given)
            node.replace_all_uses_with(relu)
            graph.graph.erase_node(node)
    graph.graph.lint()
    graph.recompile()
    return graph


def _follows_layer(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a Conv, Linear or BatchNorm layer gives what a node sees, or what elementwise operations make of it."""
    while len(node.all_input_nodes) == 1:
        (node,) = node.all_input_nodes
        module = called(graph, node)
        if module is not None and (isinstance(module, WEIGHTED_LAYERS) or holds_statistics(module)):
            return True
        if not operator_of(graph, node).elementwise and not clamps(graph, node):
            return False
    return False
