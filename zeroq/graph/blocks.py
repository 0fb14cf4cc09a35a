"""A traced network as a chain of blocks, with nothing but one tensor handed on from each to the next."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from zeroq.graph.operators import name_of
from zeroq.graph.tracing import operation_of


@dataclass(frozen=True)
class Block:
    """Consecutive nodes of a graph that need one value of those before them, ``entry``'s.

    ``layers`` are those of the layers it was cut by that it calls, by name, in order of execution.
    """

    entry: fx.Node
    nodes: tuple[fx.Node, ...]
    layers: tuple[str, ...]

    @property
    def modules(self) -> set[str]:
        """The modules that it calls, by name."""
        return {name_of(node) for node in self.nodes if node.op == "call_module"}

    def run(self, network: nn.Module, value: Any) -> Any:
        """What the block gives for a value of ``entry``, with the modules of ``network`` by the graph's names.

        The value stays as it is, whatever works in place.
        """
        values = {self.entry: value.clone()}

        def value_of(node: fx.Node) -> Any:
            if node not in values:  # a tensor of the network, or an argument of its that keeps its default
                inputs, named = fx.map_arg((node.args, node.kwargs), value_of)
                operation = operation_of(network, node)
                values[node] = inputs[0] if operation is None else operation(*inputs, **named)
            return values[node]

        for node in self.nodes:
            value_of(node)
        return values[self.nodes[-1]]


def blocks(graph: fx.Graph, layers: Collection[str], *, most: int) -> list[Block]:
    """A graph as a chain of blocks of at most so many of the layers each, and more where it cannot be cut.

    Blocks begin before a layer. The first one's entry is the image, the last one gives the network's output.
    """
    nodes = [node for node in graph.nodes if node.op != "get_attr"]
    image = next(node for node in nodes if node.op == "placeholder")
    nodes = nodes[nodes.index(image) + 1 :]
    found: list[Block] = []
    entry: fx.Node = image
    passed: list[fx.Node] = []
    for part in _parts([image, *nodes], layers):
        before, own = _called(passed, layers), _called(part, layers)
        if before and len(before) + len(own) > most:
            found.append(_block(entry, passed, layers))
            entry, passed = passed[-1], []
        passed = [*passed, *part]
    return [*found, _block(entry, passed, layers)]


def by_image(chain: Sequence[Block], network: nn.Module, image: torch.Tensor) -> list[Block]:
    """The chain without cuts at values whose first axis is not the images', as where all images' tokens are one list.

    Tried on copies of ``image`` [1, C, H, W].
    """
    count = 3
    given = image.expand(count, -1, -1, -1)
    found: list[Block] = []
    whole: Block | None = None
    for block in chain:
        if whole is not None:
            block = Block(whole.entry, whole.nodes + block.nodes, tuple(dict.fromkeys(whole.layers + block.layers)))
        value = block.run(network, given)
        if block.nodes[-1] is chain[-1].nodes[-1] or (value.dim() and len(value) == count):
            found.append(block)
            given, whole = value, None
        else:
            whole = block
    return found


def _block(entry: fx.Node, nodes: Sequence[fx.Node], layers: Collection[str]) -> Block:
    return Block(entry, tuple(nodes), tuple(dict.fromkeys(_called(nodes, layers))))


def _called(nodes: Iterable[fx.Node], layers: Collection[str]) -> list[str]:
    """The layers that nodes call, one a call."""
    return [name_of(node) for node in nodes if node.op == "call_module" and name_of(node) in layers]


def _parts(nodes: list[fx.Node], layers: Collection[str]) -> list[list[fx.Node]]:
    """The nodes behind the first, cut wherever one value alone is needed by those that follow, and a layer by first."""
    places = {node: place for place, node in enumerate(nodes)}
    last = {node: max((places[user] for user in node.users if user in places), default=-1) for node in nodes}
    parts: list[list[fx.Node]] = [[]]
    alive = {nodes[0]} if last[nodes[0]] > 0 else set()
    for place, node in enumerate(nodes[1:], start=1):
        parts[-1].append(node)
        if node.op != "placeholder":
            alive.add(node)
        alive = {each for each in alive if last[each] > place}
        if alive == {node} and _called(node.users, layers):
            parts.append([])
    return [part for part in parts if part]
