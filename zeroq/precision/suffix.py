"""Run a network again from one of its layers on, instead of from the images."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
Rerun = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]


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
        self._operations = [_operation(self._graph, node) for node in self._nodes]
        self._dead = _last_uses(self._nodes, self._scores)
        self._uses = self._uses_of_weights()
        self._starting = defaultdict(list)
        for name, uses in self._uses.items():
            if uses:
                self._starting[uses[0]].append(name)

    def sweep(self, images: torch.Tensor, *, together: bool) -> Iterator[tuple[str, Rerun]]:
        """Each layer that the scores depend on, in order of execution, with a function: its weights → class scores.

        The function takes several weights of the layer and gives the scores with each, and holds until the next layer
        is asked for. What precedes the layers is computed once for all of them. ``together`` runs the network once for
        all weights of a layer, where what flows are batches; for networks that treat each image on its own.
        """
        values: Values = {}
        for index in range(len(self._nodes)):
            for name in self._starting[index]:
                yield name, lambda weights, name=name: self._rerun(name, weights, values, len(images), together)
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

    def _rerun(
        self, name: str, weights: Sequence[torch.Tensor], values: Values, images: int, together: bool
    ) -> list[torch.Tensor]:
        """The scores with each of several weights of one layer, from the values that precede its first use."""
        if together and self._stacks(name, values, images):
            return list(self._remaining(name, weights, values).chunk(len(weights)))
        return [self._remaining(name, [weight], values) for weight in weights]

    def _stacks(self, name: str, values: Values, images: int) -> bool:
        """Whether several weights can share a run: all values are batches, and only the layer uses its weight."""
        layer = self._layers[name]
        batches = all(isinstance(each, torch.Tensor) and each.dim() and len(each) == images for each in values.values())
        alone = all(
            self._operations[index] is layer and len(self._nodes[index].args) == 1 and not self._nodes[index].kwargs
            for index in self._uses[name]
        )
        # To repeat two values that share memory would part them, and one may be how the other is changed.
        return batches and alone and len(_storages(values)) == len(values)

    def _remaining(self, name: str, weights: Sequence[torch.Tensor], values: Values) -> torch.Tensor:
        """The scores with a layer's weight replaced; with several weights, those of each behind each other."""
        layer, uses, times = self._layers[name], self._uses[name], len(weights)
        # Copied, and all at once: what remains may work in place, and values may share memory with each other.
        copied = [torch.cat([value] * times) for value in values.values()] if times > 1 else None
        own = dict(zip(values, copied or copy.deepcopy(list(values.values())), strict=True))
        with replaced_weight(layer, weights[0]):
            for index in range(uses[0], len(self._nodes)):
                if times > 1 and index in uses:
                    self._run(own, index, operation=lambda batch: _each(layer, weights, batch))
                else:
                    self._run(own, index)
        return self._scores_in(own)

    def _scores_in(self, values: Values) -> torch.Tensor:
        return scores_of(fx.map_arg(self._scores, values.__getitem__))

    def _run(
        self,
        values: Values,
        index: int,
        images: torch.Tensor | None = None,
        *,
        operation: Callable | None = None,
        before_freeing: Callable[[], None] = lambda: None,
    ) -> None:
        """Compute a node's value, and drop those that no other node needs."""
        node = self._nodes[index]
        if node.op == "placeholder":
            values[node] = node.args[0] if node.args else images
        else:
            inputs, named = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = (operation or self._operations[index])(*inputs, **named)
        before_freeing()
        for dead in self._dead[index]:
            del values[dead]

    def _uses_of_weights(self) -> dict[str, list[int]]:
        """By layer, the nodes that use its weight: the layer itself, what contains it, and what shares the weight."""
        uses = defaultdict(list)
        for index, (node, operation) in enumerate(zip(self._nodes, self._operations, strict=True)):
            if node.op == "call_module":
                used = list(operation.parameters())
            else:
                used = [operation()] if node.op == "get_attr" else []
            for tensor in used:
                uses[id(tensor)].append(index)
        return {name: uses[id(layer.weight)] for name, layer in self._layers.items()}


def _each(layer: nn.Module, weights: Sequence[torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    """A layer with one weight after the other, each on its part of a batch."""
    outputs = []
    for weight, part in zip(weights, batch.chunk(len(weights)), strict=True):
        with replaced_weight(layer, weight):
            outputs.append(layer(part))
    return torch.cat(outputs)


def _operation(graph: fx.GraphModule, node: fx.Node) -> Callable | None:
    """What a node calls with its arguments' values; None where it only hands on what it is given."""
    if node.op == "call_module":
        return graph.get_submodule(node.target)
    if node.op == "call_method":
        return lambda own, *inputs, **named: getattr(own, node.target)(*inputs, **named)
    if node.op == "get_attr":
        owner, _, name = node.target.rpartition(".")
        return lambda: getattr(graph.get_submodule(owner), name)
    return node.target if node.op == "call_function" else None


def _class_scores_of(graph: fx.Graph) -> Any:
    """The nodes that hold the class scores, arranged as the network's output is."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    found = output.args[0]
    return {"cls_logits": found["cls_logits"]} if isinstance(found, Mapping) and "cls_logits" in found else found


def _needed(graph: fx.Graph, scores: Any) -> list[fx.Node]:
    """The nodes that the class scores depend on, in order of execution.

    A node whose result nobody uses was called for its effect, such as to add in place, and is needed too.
    """
    wanted = {node for node in graph.nodes if not node.users and node.op != "output"}
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
