"""What a file of ``export_onnx`` holds: its plan, the grids of its layers, and what was written beside them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy

from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra
from zeroq.export.model import PREFIX
from zeroq.export.owners import WITH_WEIGHTS, neighbours, owners_of_words

with imported_from_extra():
    import onnx

Range = tuple[float, float]


@dataclass(frozen=True)
class StoredLayer:
    """A Conv or Linear layer: its operator, the plan's bits, and the grids of its weights and of its input.

    ``stored`` is ONNX's type of the weights and ``weights`` their number. ``scales`` are the smallest and the largest
    of the scales of the 8-bit integers that they become when a runtime loads the file, None where they are float.
    ``input_scale`` and ``input_zero_point`` are None where the input is float.
    """

    name: str
    operator: str
    bits: int
    stored: str
    weights: int
    scales: Range | None
    input_scale: float | None
    input_zero_point: int | None


@dataclass(frozen=True)
class Contents:
    """A file: ONNX's versions, names and shapes of inputs and outputs, metadata beside the plan, and the layers."""

    opset: int
    ir_version: int
    producer: str
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    metadata: dict[str, str]
    layers: tuple[StoredLayer, ...]


def contents(path: Path | str) -> Contents:
    """What a file holds, which is only read, not run; raises ZeroQError for one that ``export_onnx`` did not write."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # of the parser, which onnx has no name for
        reason = getattr(error, "strerror", None) or "it is no ONNX file"
        raise ZeroQError(f"{path} cannot be read: {reason}") from error
    entries = {entry.key: entry.value for entry in model.metadata_props if entry.key.startswith(PREFIX)}
    entries = {key.removeprefix(PREFIX): value for key, value in entries.items()}
    try:
        plan = json.loads(entries.pop("plan"))
        plan = {str(name): int(bits) for name, bits in plan.items()}
        layers = tuple(_layers(model.graph, plan))
    except KeyError as error:
        raise ZeroQError(f"{path} holds no plan: it is not of zeroq.export_onnx") from error
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ZeroQError(f"{path} is damaged: its plan is not that of its layers") from error
    entries.pop("outputs", None)  # how to put them together again
    return Contents(
        opset=next((each.version for each in model.opset_import if not each.domain), 0),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs={value.name: _shape(value) for value in model.graph.input},
        outputs={value.name: _shape(value) for value in model.graph.output},
        metadata=entries,
        layers=layers,
    )


def _layers(graph: onnx.GraphProto, plan: dict[str, int]) -> list[StoredLayer]:
    """The layers that a plan names, in order of execution; of several calls of one the first.

    Of layers whose weights are the same, the file has one.
    """
    producers, _ = neighbours(graph)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    owners = owners_of_words(graph, list(plan))
    found: dict[str, StoredLayer] = {}
    for node in graph.node:
        name = next((owners[word] for word in (node.name, *node.output) if word in owners), None)
        if node.op_type not in WITH_WEIGHTS or name is None or name in found:
            continue
        given, weight = producers.get(node.input[0]), producers.get(node.input[1])
        input_grid = _grid(given, constants)
        grid = _grid(weight, constants)
        stored = node.input[1]
        while stored in producers:
            stored = producers[stored].input[0]
        tensor = constants[stored]
        found[name] = StoredLayer(
            name=name,
            operator=node.op_type,
            bits=plan[name],
            stored=onnx.TensorProto.DataType.Name(tensor.data_type).lower(),
            weights=int(numpy.prod(tensor.dims, dtype=numpy.int64)),
            scales=None if grid is None else (float(grid[0].min()), float(grid[0].max())),
            input_scale=None if input_grid is None else float(input_grid[0].flat[0]),
            input_zero_point=None if input_grid is None else int(input_grid[1].flat[0]),
        )
    if plan and not found:
        raise ValueError("no layer of the plan is in the graph")
    return list(found.values())


def _grid(
    node: onnx.NodeProto | None, constants: dict[str, onnx.TensorProto]
) -> tuple[numpy.ndarray, numpy.ndarray] | None:
    """Scales and zero points of a node that dequantizes; None of any other."""
    if node is None or node.op_type != "DequantizeLinear":
        return None
    scale, zero_point = (onnx.numpy_helper.to_array(constants[name]) for name in node.input[1:3])
    return scale, zero_point


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
