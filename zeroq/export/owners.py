"""Which layer of a network each kernel is of that onnxruntime makes of its file."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra
from zeroq.export.runtime import optimized_graph

with imported_from_extra():
    import onnx

WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What makes a layer's output what the next one takes, one value at a time.
BEHIND = ("BatchNormalization", "Clip", "Relu", "QuantizeLinear")
WEIGHT = re.compile(r"(.+?)(?:_\d+bit_\d+)?\.weight(?:_integers)?")
# What onnxruntime adds to a node's name, or to that of its output, when it rewrites the graph.
ADDED = re.compile(r"(_nchwc|_nhwc|_token_\d+)+$")
LAYOUT = ("ReorderInput", "ReorderOutput", "Transpose")


def kernels_of_layers(path: Path, names: list[str]) -> dict[str, set[str]]:
    """The kernels that onnxruntime makes of each layer that a file has: name → types of operators."""
    words = owners_of_words(onnx.load(path).graph, names)
    graph = optimized_graph(path)
    owners = owners_of_kernels(graph, words)
    kinds: dict[str, set[str]] = defaultdict(set)
    for node in graph.node:
        if node.name in owners:
            kinds[owners[node.name]].add(node.op_type)
    return kinds


def owners_of_kernels(graph: onnx.GraphProto, words: dict[str, str]) -> dict[str, str]:
    """The layer of each node of the graph that onnxruntime runs, by the node's name; not all are of a layer.

    ``words`` as from ``owners_of_words``. Raises ZeroQError where a layer that has words has no node.
    """
    found = {node.name: _owner(node, words) for node in graph.node}
    producers, consumers = neighbours(graph)
    for node in graph.node:
        if found[node.name] is None and node.op_type in LAYOUT:
            beside = [producers.get(node.input[0]), *consumers[node.output[0]]]
            found[node.name] = next((found[each.name] for each in beside if each and found[each.name]), None)
    owners = {name: layer for name, layer in found.items() if layer is not None}
    if missing := set(words.values()) - set(owners.values()):
        raise ZeroQError(f"onnxruntime's profile does not name what it makes of layer {min(missing)!r}")
    return owners


def _owner(node: onnx.NodeProto, words: dict[str, str]) -> str | None:
    """By its name, or by what it gives: a kernel that onnxruntime fuses of several gets a name of its own."""
    return next((words[word] for word in (ADDED.sub("", node.name), *node.output) if word in words), None)


def neighbours(graph: onnx.GraphProto) -> tuple[dict[str, onnx.NodeProto], dict[str, list[onnx.NodeProto]]]:
    """By value, the node that gives it, and those that take it."""
    producers: dict[str, onnx.NodeProto] = {}
    consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        producers.update((value, node) for value in node.output)
        for value in node.input:
            consumers[value].append(node)
    return producers, consumers


def owners_of_words(graph: onnx.GraphProto, names: list[str]) -> dict[str, str]:
    """The layer behind each word that onnxruntime may name its kernel by: a node's own name, or what the node gives."""
    producers, consumers = neighbours(graph)
    layers = set(names)
    owners: dict[str, str] = {}
    for node in graph.node:
        if node.op_type not in WITH_WEIGHTS:
            continue
        weights = [found for value in node.input[1:] for found in _constants(value, producers)]
        matches = (WEIGHT.fullmatch(value) for value, _ in weights)
        layer = next((match[1] for match in matches if match and match[1] in layers), None)
        if layer is None:
            continue
        given = producers.get(node.input[0])
        before = [given] if given is not None and given.op_type == "DequantizeLinear" else []
        before += [made for _, nodes in weights for made in nodes]
        for each in (node, *_behind(node, consumers), *before):
            for word in (each.name, *each.output):
                owners.setdefault(word, layer)  # one kernel may make the input of several layers: the first one's
    return owners


def _constants(value: str, producers: dict[str, onnx.NodeProto]) -> Iterator[tuple[str, list[onnx.NodeProto]]]:
    """Each constant that a value is made of alone, with the nodes that make it."""
    nodes: list[onnx.NodeProto] = []
    while value in producers:
        nodes.append(producers[value])
        value = producers[value].input[0] if producers[value].input else ""
    yield value, nodes


def _behind(node: onnx.NodeProto, consumers: dict[str, list[onnx.NodeProto]]) -> Iterator[onnx.NodeProto]:
    """What follows a layer alone, up to where its output is quantized."""
    while len(users := consumers[node.output[0]]) == 1 and users[0].op_type in BEHIND:
        node = users[0]
        yield node
        if node.op_type == "QuantizeLinear":
            return
