"""A file's model with constants of its own for each layer, as onnxruntime's exact sums want it."""

import copy
from pathlib import Path

from zeroq.export.extra import imported_from_extra

with imported_from_extra():
    import onnx

# Where operators take a weight, or a zero point.
PLACES = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "QuantizeLinear": 2, "DequantizeLinear": 2}


def with_separate_weights(path: Path | str) -> bytes:
    """The model in a file, in which no two layers, or calls of one, share a weight or its zero point.

    Where onnxruntime makes uint8 of int8 weights it refuses shared ones. Kernels and numbers are those of the file.
    """
    model = onnx.load(path)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {value: node for node in graph.node for value in node.output}
    nodes: list[onnx.NodeProto] = []

    def own(value: str, suffix: str) -> str:
        """A copy of a constant and of all that it is made of; what is no constant stays."""
        name = f"{value}{suffix}"
        if value in constants:
            graph.initializer.append(copy.deepcopy(constants[value]))
            graph.initializer[-1].name = name
            constants[name] = graph.initializer[-1]
            return name
        node = producers.get(value)
        if node is None or not is_constant(value):
            return value
        copied = copy.deepcopy(node)
        copied.name = f"{node.name}{suffix}"
        copied.input[:] = [each and own(each, suffix) for each in node.input]
        copied.output[:] = [name]
        nodes.append(copied)
        return name

    def is_constant(value: str) -> bool:
        if value in constants or not value:
            return True
        return (
            value in producers and len(producers[value].output) == 1 and all(map(is_constant, producers[value].input))
        )

    for index, node in enumerate(list(graph.node)):
        place = PLACES.get(node.op_type)
        if place is not None and len(node.input) > place:
            node.input[place] = own(node.input[place], f"_own_{index}")
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model.SerializeToString()
