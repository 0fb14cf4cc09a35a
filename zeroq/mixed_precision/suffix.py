"""Run a network again from one of its layers on, instead of from the images."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from zeroq.errors import ZeroQError
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.tracing import operation_of, trace
from zeroq.layers import WEIGHTED_LAYERS, beside_weight, weighted_layers
from zeroq.mixed_precision.outputs import BY_SHAPE, Reading
from zeroq.modules import replaced_weight

Values = dict[fx.Node, Any]


class SuffixNetwork:
    """A traced copy of a network, whose class scores can be computed again from any Conv or Linear layer on.

    It is for images of one shape, (channels, height, width), and ``reading`` finds the scores in its output. BatchNorm
    is folded, which changes nothing but roundings, and what the scores do not depend on, such as a detector's boxes, is
    left out. Raises ZeroQError where the network cannot be traced, and where it has forward hooks, which expect whole
    forwards of the network itself.
    """

    def __init__(
        self,
        model: nn.Module,
        input_shape: tuple[int, int, int],
        reading: Reading = BY_SHAPE,
    ):
        if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
            raise ZeroQError("the network has forward hooks, which a part of a forward would not call as they expect")
        self._graph = fold_batch_norms(trace(model, input_shape))
        self._layers = weighted_layers(self._graph)
        self._reading = reading
        # The nodes that hold the scores, arranged as the network's output is.
        self._scores = reading.narrowed(self._graph.graph.output_node().args[0])
        self._nodes = _needed(self._graph.graph, self._scores)
        self._operations = [operation_of(self._graph, node) for node in self._nodes]
        self._dead = _last_uses(self._nodes, self._scores)
        self._starting = self._first_uses()

    def sweep(self, images: torch.Tensor) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
        """Each layer that the scores depend on, in order of execution, with a function: its weight → class scores.

        The function holds until the next layer is asked for. What precedes the layers is computed once for all of them.
        """
        values: Values = {}
        for index in range(len(self._nodes)):
            for name in self._starting[index]:
                yield name, partial(self._scores_with, name, values=values, start=index)
            self._run(values, index, images)

    def scores(self, images: torch.Tensor) -> torch.Tensor:
        """The class scores with all weights as they are."""
        values: Values = {}
        for index in range(len(self._nodes)):
            self._run(values, index, images)
        return self._scores_in(values)

    def bytes_needed(self, images: torch.Tensor) -> tuple[int, int]:
        """What ``sweep`` of such images holds at most for values between layers: of what is kept, and of one run."""
        values: Values = {}
        kept, used = [], []
        for index in range(len(self._nodes)):
            kept.append(sum(_storages(values).values()))
            self._run(values, index, images, before_freeing=lambda: used.append(sum(_storages(values).values())))
        return max(kept), max(used)

    def _scores_with(self, name: str, weight: torch.Tensor, values: Values, start: int) -> torch.Tensor:
        """The scores with another weight of a layer, from the values that precede its first use."""
        layer, first = self._layers[name], self._nodes[start]
        factor = getattr(layer, "folded_factor", None)
        folded = weight if factor is None else (weight * beside_weight(layer, factor)).to(weight.dtype)
        own: Values = {}
        with replaced_weight(layer, folded):
            if self._operations[start] is layer and type(layer) in WEIGHTED_LAYERS:
                # Torch's own layers leave their input as it is, so that one which nothing else needs is not copied.
                inputs, named = fx.map_arg((first.args, first.kwargs), values.__getitem__)
                own[first] = layer(*inputs, **named)
                values = {node: value for node, value in values.items() if node not in self._dead[start]}
                start += 1
            own |= values
            for index in range(start, len(self._nodes)):
                self._run(own, index)
        return self._scores_in(own)

    def _scores_in(self, values: Values) -> torch.Tensor:
        return self._reading.scores(fx.map_arg(self._scores, values.__getitem__))

    def _run(
        self,
        values: Values,
        index: int,
        images: torch.Tensor | None = None,
        *,
        before_freeing: Callable[[], None] = lambda: None,
    ) -> None:
        """Compute a node's value, and drop those that no other node needs."""
        node, operation = self._nodes[index], self._operations[index]
        if operation is None:
            values[node] = node.args[0] if node.args else images
        else:
            inputs, named = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = operation(*inputs, **named)
        before_freeing()
        for dead in self._dead[index]:
            del values[dead]

    def _first_uses(self) -> list[list[str]]:
        """By node, the layers whose weight it is the first to use: the layer itself, or what shares its weight."""
        first: dict[int, int] = {}
        for index, (node, operation) in enumerate(zip(self._nodes, self._operations, strict=True)):
            if isinstance(operation, nn.Module):
                used = list(operation.parameters())
            else:
                used = [operation()] if operation is not None and node.op == "get_attr" else []
            for tensor in used:
                first.setdefault(id(tensor), index)
        starting: list[list[str]] = [[] for _ in self._nodes]
        for name, layer in self._layers.items():
            if id(layer.weight) in first:
                starting[first[id(layer.weight)]].append(name)
        return starting


def _needed(graph: fx.Graph, scores: Any) -> list[fx.Node]:
    """The nodes that the class scores depend on, in order of execution."""
    wanted: set[fx.Node] = set()
    fx.map_arg(scores, wanted.add)
    for node in reversed(graph.nodes):
        if node in wanted:
            wanted.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in wanted]


def _last_uses(nodes: Sequence[fx.Node], scores: Any) -> list[list[fx.Node]]:
    """By each node's index, the nodes whose values nothing behind it needs."""
    last = {}
    for index, node in enumerate(nodes):
        last.update(dict.fromkeys((node, *node.all_input_nodes), index))
    fx.map_arg(scores, lambda node: last.pop(node, None))
    dead = defaultdict(list)
    for node, index in last.items():
        dead[index].append(node)
    return [dead[index] for index in range(len(nodes))]


def _storages(values: Values) -> dict[int, int]:
    """The memory of all tensors in values: address → bytes."""
    tensors = (value for value in tree_leaves(list(values.values())) if isinstance(value, torch.Tensor))
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
