"""A quantized network → an ONNX file that onnxruntime executes, with integers where the plan has them."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra
from zeroq.export.lowering import LoweredLayer, explicit, lowered
from zeroq.export.model import FIRST_OPSETS, OPSET, PREFIX, WEIGHT, cause, check_opset, content_of, onnx_model
from zeroq.export.owners import kernels_of_layers
from zeroq.export.verify import Difference, verify
from zeroq.graph.tracing import check_same_outputs
from zeroq.images import check_images, shape_of
from zeroq.modules import model_device

with imported_from_extra():
    import onnx
    import onnx_ir as ir

MIB = 2**20
# What onnxruntime calls kernels of layers that compute in float.
FLOAT_KERNELS = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
NO_KERNEL = "onnxruntime has no integer kernel for it"


@dataclass(frozen=True)
class ExportReport:
    """Where the bytes of an exported file are, in MiB, and how each layer runs.

    ``weights_mib`` are packed weights (and those that stayed float), ``parameters_mib`` biases, scales and zero points,
    ``graph_mib`` the rest of ``file_mib``. ``planned_weights_mib`` is what the plan's bits make of the weights: less,
    where 3 bits are stored in types of 4, and 5 to 7 in types of 8. ``first_difference`` is the first tensor that is
    not bit for bit what was simulated: one rounding falls to the other side, and what follows may differ by more.
    """

    path: Path
    file_mib: float
    weights_mib: float
    planned_weights_mib: float
    parameters_mib: float
    graph_mib: float
    layers: tuple[LoweredLayer, ...]
    first_difference: Difference | None

    @property
    def float_layers(self) -> dict[str, str]:
        """The Conv and Linear layers of which a call runs in float, and why."""
        return {layer.name: layer.reason for layer in self.layers if layer.reason}

    @property
    def wider_layers(self) -> dict[str, tuple[int, int]]:
        """The layers that are stored in more bits than the plan's: (planned, stored)."""
        return {each.name: (each.bits, each.stored_bits) for each in self.layers if each.stored_bits != each.bits}


def export_onnx(
    quantized: nn.Module,
    path: Path | str,
    example: torch.Tensor,
    *,
    metadata: Mapping[str, str] | None = None,
    opset: int | None = None,
) -> ExportReport:
    """Write a calibrated quantized network as ONNX in QDQ form, each float operator between (de)quantizing ones.

    Every weight has the value that it was simulated with; BatchNorm is folded into scales, which changes none. Weights
    are stored as integers of 2, 4 or 8 bits, and what makes 8-bit ones of the narrow ones, multiples in units of a
    finer scale, runtimes do once when they load the file. Biases are 32-bit integers in such units where a layer has an
    integer kernel. Activations are uint8, fewer bits as a grid that ends sooner. The file takes float images as the
    network does, in batches of any size. It is run before it is kept, beside what it is to compute (``verify``), and
    the report says of each layer how onnxruntime runs it.

    Args:
        quantized: from ``zeroq.quantize``, calibrated, or from ``zero_shot_quantize(…).model``.
        example: float [N, C, H, W], normalised; fixes the size of images.
        metadata: more entries of the file's own, beside ``zeroq.plan``; names get the prefix ``zeroq.``.
        opset: version of ONNX's operators, 18 to 25; None for 21, or 25 where weights have 2 bits.

    Raises:
        ZeroQError: a network that is not quantized or not calibrated, that cannot be traced, or with an operator that
            torch.onnx does not know; bits that the opset cannot hold; a path that cannot be written; a
            file that would compute something else than was simulated. No file is left.
    """
    check_images(example)
    check_folder(Path(path))
    graph = explicit(quantized, shape_of(example))
    check_same_outputs(quantized, graph, example.to(model_device(quantized)))
    graph, layers = lowered(graph)
    opset = max(OPSET, *(FIRST_OPSETS.get(layer.stored_bits, OPSET) for layer in layers)) if opset is None else opset
    check_opset(opset, layers)
    model = onnx_model(graph, example, opset)
    plan = {layer.name: layer.bits for layer in layers}
    entries = {"plan": json.dumps(plan), **(metadata or {})}
    model.metadata_props.update({f"{PREFIX}{name}": str(value) for name, value in entries.items()})
    with _written(model, Path(path)) as scratch:
        first = verify(scratch, quantized, example)
        layers = as_run(scratch, layers)
    return _report(model, Path(path), layers, first)


@borrows
def export_float_onnx(model: nn.Module, path: Path | str, example: torch.Tensor, *, opset: int = OPSET) -> Path:
    """Write a float network as ONNX, to compare with; raises ZeroQError as ``export_onnx`` does."""
    check_images(example)
    check_folder(Path(path))
    check_opset(opset, [])
    with _written(onnx_model(model, example, opset), Path(path)):
        return Path(path)


def check_folder(path: Path) -> None:
    """Raise ZeroQError where the folder that a file is to lie in is not there."""
    if not path.parent.is_dir():
        raise ZeroQError(f"cannot write {path}: there is no folder {path.parent}; make it first")


def as_run(path: Path, layers: list[LoweredLayer]) -> list[LoweredLayer]:
    """The layers with what onnxruntime really makes of them, from the graph that it runs."""
    names = [layer.name for layer in layers]
    kinds = kernels_of_layers(path, names)
    in_float = {name for name, found in kinds.items() if any(kind in FLOAT_KERNELS for kind in found)}
    return [
        replace(layer, reason=(layer.reason or NO_KERNEL) if layer.name in in_float else "")
        if layer.name in kinds
        else layer
        for layer in layers
    ]


def _report(model: ir.Model, path: Path, layers: list[LoweredLayer], first: Difference | None) -> ExportReport:
    """Say where a file's bytes are."""
    weights = parameters = 0
    for name, value in model.graph.initializers.items():
        content = content_of(value)
        is_weight = name.endswith(f".{WEIGHT}") or (name.endswith(".weight") and len(content.shape) > 1)
        weights += content.nbytes if is_weight else 0
        parameters += 0 if is_weight else content.nbytes
    size = path.stat().st_size
    return ExportReport(
        path=path,
        file_mib=size / MIB,
        weights_mib=weights / MIB,
        planned_weights_mib=sum(layer.weights * layer.bits for layer in layers) / 8 / MIB,
        parameters_mib=parameters / MIB,
        graph_mib=(size - weights - parameters) / MIB,
        layers=tuple(layers),
        first_difference=first,
    )


@contextlib.contextmanager
def _written(model: ir.Model, path: Path) -> Iterator[Path]:
    """A file under another name inside, for checks; behind it whole at its place, or not at all."""
    content = ir.serde.serialize_model(model)
    try:
        onnx.checker.check_model(content)
    except onnx.checker.ValidationError as error:
        raise ZeroQError(f"the network makes no valid ONNX file: {cause(error)}") from error
    try:
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.SerializeToString())
            yield Path(scratch)
            Path(scratch).chmod(0o644)
            Path(scratch).replace(path)
        finally:
            Path(scratch).unlink(missing_ok=True)
    except OSError as error:
        raise ZeroQError(f"cannot write {path} ({error.strerror}); choose another path") from error
