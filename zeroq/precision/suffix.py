"""Run a network again from one of its layers on, instead of from the images."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from operator import methodcaller
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from zeroq.errors import ZeroQError
from zeroq.networks.state import replaced_weight
from zeroq.precision.divergence import scores_of
from zeroq.quantization.layers import weighted_layers
from zeroq.quantization.tracing import trace

Values = dict[fx.Node, Any]


class SuffixNetwork:
    """A traced copy of a network, whose class scores can be computed again from any Conv or Linear layer on.

    What the scores do not depend on, such as a detector's boxes, is left out. Raises ZeroQError where the network
    cannot be traced, and where it has forward hooks, which expect whole forwards of the network itself.
    """

    def __init__(self, model: nn.Module):
        if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
            raise ZeroQError("the network has forward hooks, which a part of a forward would not call as they expect")
        self._graph = trace(model)
        self._layers = weighted_layers(self._graph)
        self._scores = _class_scores_of(self._graph.graph)
        self._nodes = _needed(self._graph.graph, self._scores)
        self._operations = [self._operation(node) for node in self._nodes]
        self._dead = _last_uses(self._nodes, self._scores)
        self._starting = self._first_uses()

    def sweep(self, images: torch.Tensor) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
        """Each layer that the scores depend on, in order of execution, with a function: its weight → class scores.

        The function holds until the next layer is asked for. What precedes the layers is computed once for all of them.
        """
        values: Values = {}
        for index in range(len(self._nodes)):
            for name in self._starting[index]:
                yield name, lambda weight, name=name, index=index: self._scores_with(name, weight, values, index)
            self._run(values, index, images)

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        """The class scores with all weights as they are."""
        return self._remaining({}, 0, images)

    def bytes_needed(self, images: torch.Tensor) -> int:
        """The memory that ``sweep`` of such images takes for the values between its layers, at most."""
        values: Values = {}
        kept, used = [], []
        for index in range(len(self._nodes)):
            kept.append(_bytes(values))
            self._run(values, index, images, lambda: used.append(_bytes(values)))
        # What is kept for the layers that follow, and the largest that a run of the rest holds at once.
        return max(before + max(used[index:]) for index, before in enumerate(kept))

    def _scores_with(self, name: str, weight: torch.Tensor, values: Values, start: int) -> torch.Tensor:
        # A copy of all values at once: the rest may work in place, and values may share memory with each other.
        with replaced_weight(self._layers[name], weight):
            return self._remaining(dict(zip(values, copy.deepcopy(list(values.values())), strict=True)), start)

    def _remaining(self, values: Values, start: int, images: torch.Tensor | None = None) -> torch.Tensor:
        for index in range(start, len(self._nodes)):
            self._run(values, index, images)
        return scores_of(fx.map_arg(self._scores, values.__getitem__))

    def _run(
        self,
        values: Values,
        index: int,
        images: torch.Tensor | None,
        before_freeing: Callable[[], None] = lambda: None,
    ) -> None:
        node, operation = self._nodes[index], self._operations[index]
        if node.op == "placeholder":
            values[node] = node.args[0] if node.args else images
        else:
            values[node] = operation(
                *fx.map_arg(node.args, values.__getitem__), **fx.map_arg(node.kwargs, values.__getitem__)
            )
        before_freeing()
        for dead in self._dead[index]:
            del values[dead]

    def _operation(self, node: fx.Node) -> Callable | None:
        if node.op == "call_module":
            return self._graph.get_submodule(node.target)
        if node.op == "call_method":
            return lambda own, *inputs, **named: methodcaller(node.target, *inputs, **named)(own)
        if node.op == "get_attr":
            return lambda: _attribute(self._graph, node.target)
        return node.target if node.op == "call_function" else None

    def _first_uses(self) -> list[list[str]]:
        """The layers whose weight is first used by each node, be it by the layer, around it, or by another that shares it."""
        first: dict[int, int] = {}
        for index, (node, operation) in enumerate(zip(self._nodes, self._operations, strict=True)):
            if node.op == "call_module":
                used = list(operation.parameters())
            else:
                used = [operation()] if node.op == "get_attr" else []
            for tensor in used:
                first.setdefault(id(tensor), index)
        starting: list[list[str]] = [[] for _ in self._nodes]
        for name, layer in self._layers.items():
            if id(layer.weight) in first:
                starting[first[id(layer.weight)]].append(name)
        return starting


def _class_scores_of(graph: fx.Graph) -> Any:
    """The node or nodes that hold the class scores."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    found = output.args[0]
    return {"cls_logits": found["cls_logits"]} if isinstance(found, Mapping) and "cls_logits" in found else found


def _needed(graph: fx.Graph, scores: Any) -> list[fx.Node]:
    """The nodes that the class scores depend on, in order of execution.

    A node whose result nobody uses was called for its effect, such as to add in place, and is needed too.
    """
    wanted = {node for node in graph.nodes if not node.users and node.op not in ("output", "placeholder")}
    fx.map_arg(scores, wanted.add)
    for node in reversed(graph.nodes):
        if node in wanted:
            wanted.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in wanted or node.op == "placeholder"]


def _last_uses(nodes: list[fx.Node], scores: Any) -> list[list[fx.Node]]:
    """By each node's index, the nodes whose values nothing behind it uses."""
    last = {}
    for index, node in enumerate(nodes):
        last[node] = index
        last.update(dict.fromkeys(node.all_input_nodes, index))
    fx.map_arg(scores, last.pop)
    dead = defaultdict(list)
    for node, index in last.items():
        dead[index].append(node)
    return [dead[index] for index in range(len(nodes))]


def _attribute(graph: fx.GraphModule, target: str) -> Any:
    owner, _, name = target.rpartition(".")
    return getattr(graph.get_submodule(owner), name)


def _bytes(values: Values) -> int:
    """The memory of all tensors in values, once for those that share it."""
    storages = (value.untyped_storage() for value in tree_leaves(values) if isinstance(value, torch.Tensor))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
