"""A quantized network → an ONNX file that onnxruntime executes, with integers where the plan has them."""

import contextlib
import io
import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils import _pytree as pytree

from zeroq.borrowing import borrows, copied
from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra
from zeroq.export.lowering import WIDEST, LoweredLayer, explicit, lowered
from zeroq.export.translations import translations
from zeroq.graph.tracing import check_same_outputs
from zeroq.images import check_images
from zeroq.modules import evaluating, forward, model_device

with imported_from_extra():
    import ml_dtypes
    import onnx
    import onnx_ir as ir
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass, DeduplicateHashedInitializersPass

MIB = 2**20
# What torch.onnx writes, and the first versions with integers of 8, 4 and 2 bits (8: of what it writes).
OPSET, LAST_OPSET = 21, 25
FIRST_OPSETS = {8: 18, 4: 21, 2: 25}
PACKED_TYPES = {
    (4, ir.DataType.INT8): (ir.DataType.INT4, ml_dtypes.int4),
    (4, ir.DataType.UINT8): (ir.DataType.UINT4, ml_dtypes.uint4),
    (2, ir.DataType.INT8): (ir.DataType.INT2, ml_dtypes.int2),
    (2, ir.DataType.UINT8): (ir.DataType.UINT2, ml_dtypes.uint2),
}
PACKED_TYPES |= {(3, wide): PACKED_TYPES[4, wide] for wide in (ir.DataType.INT8, ir.DataType.UINT8)}
INPUT, PREFIX = "images", "zeroq."
WEIGHT = "weight_integers"


@dataclass(frozen=True)
class ExportReport:
    """Where the bytes of an exported file are, in MiB, and how each layer runs.

    ``weights_mib`` are packed weights (and those that stayed float), ``parameters_mib`` biases, scales and zero points,
    ``graph_mib`` the rest of ``file_mib``. ``planned_weights_mib`` is what the plan's bits make of the weights: less,
    where 3 bits are stored in types of 4, and 5 to 7 in types of 8.
    """

    path: Path
    file_mib: float
    weights_mib: float
    planned_weights_mib: float
    parameters_mib: float
    graph_mib: float
    layers: tuple[LoweredLayer, ...]

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
    network does, in batches of any size.

    Args:
        quantized: from ``zeroq.quantize``, calibrated, or from ``zero_shot_quantize(…).model``.
        example: float [N, C, H, W], normalised; fixes the size of images.
        metadata: more entries of the file's own, beside ``zeroq.plan``; names get the prefix ``zeroq.``.
        opset: version of ONNX's operators, 18 to 25; None for 21, or 25 where weights have 2 bits.

    Raises:
        ZeroQError: a network that is not quantized or not calibrated, that cannot be traced, or with an operator that
            torch.onnx does not know; bits that the opset cannot hold; a path that cannot be written. No file is left.
    """
    check_images(example)
    check_folder(Path(path))
    graph = explicit(quantized, tuple(example.shape[1:]))
    check_same_outputs(quantized, graph, example.to(model_device(quantized)))
    graph, layers = lowered(graph)
    opset = max(OPSET, *(FIRST_OPSETS.get(layer.stored_bits, OPSET) for layer in layers)) if opset is None else opset
    check_opset(opset, layers)
    model = _onnx_model(graph, example, opset)
    plan = {layer.name: layer.bits for layer in layers}
    entries = {"plan": json.dumps(plan), **(metadata or {})}
    model.metadata_props.update({f"{PREFIX}{name}": str(value) for name, value in entries.items()})
    return _written(model, Path(path), layers)


@borrows
def export_float_onnx(model: nn.Module, path: Path | str, example: torch.Tensor, *, opset: int = OPSET) -> Path:
    """Write a float network as ONNX, to compare with; raises ZeroQError as ``export_onnx`` does."""
    check_images(example)
    check_folder(Path(path))
    check_opset(opset, [])
    _write(_onnx_model(model, example, opset), Path(path))
    return Path(path)


def check_opset(opset: int, layers: list[LoweredLayer]) -> None:
    """Raise ZeroQError for a version of ONNX's operators that cannot hold a network."""
    if not isinstance(opset, int) or opset not in range(FIRST_OPSETS[8], LAST_OPSET + 1):
        raise ZeroQError(f"opsets are {FIRST_OPSETS[8]} to {LAST_OPSET}, not {opset}; leave opset=None")
    for bits, first in FIRST_OPSETS.items():
        found = [layer.name for layer in layers if layer.stored_bits == bits]
        if found and opset < first:
            raise ZeroQError(
                f"opset {opset} has no integers of {bits} bits, which {len(found)} layers need, such as {found[0]!r}; "
                f"use opset={first}{' or later' if first < LAST_OPSET else ''}"
            )


def check_folder(path: Path) -> None:
    """Raise ZeroQError where the folder that a file is to lie in is not there."""
    if not path.parent.is_dir():
        raise ZeroQError(f"cannot write {path}: there is no folder {path.parent}; make it first")


def _onnx_model(network: nn.Module, example: torch.Tensor, opset: int) -> ir.Model:
    """What torch.onnx makes of a network; the batch's size is left open."""
    # torch.export takes a batch of one for a constant.
    images = (example[:2] if len(example) > 1 else example[:1].repeat(2, 1, 1, 1)).cpu().float()
    network = copied(network).cpu().float().to(memory_format=torch.contiguous_format)
    with evaluating(network), torch.no_grad(), _quietly():
        outputs = forward(network, images)
        leaves = [(_output_name(path), leaf) for path, leaf in pytree.tree_flatten_with_path(outputs)[0]]
        if others := [name for name, leaf in leaves if not isinstance(leaf, torch.Tensor)]:
            raise ZeroQError(f"the network's output {others[0]!r} is no tensor, and a file holds only tensors")
        try:
            program = torch.onnx.export(
                network,
                (images,),
                dynamo=True,
                opset_version=min(opset, OPSET),
                input_names=[INPUT],
                output_names=[name for name, _ in leaves],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                custom_translation_table=translations(min(opset, OPSET)),
                verbose=False,
            )
        except Exception as error:
            raise ZeroQError(f"torch.onnx cannot export the network: {_cause(error)}") from error
    model = program.model
    DeduplicateHashedInitializersPass()(model)  # several calls of one layer
    _pack(model)
    _strip(model)
    model.opset_imports[""] = opset  # between 21 and 25 the operators that torch.onnx writes gained types alone
    model.metadata_props[f"{PREFIX}outputs"] = pytree.treespec_dumps(pytree.tree_structure(outputs))
    return model


def _strip(model: ir.Model) -> None:
    """Remove what a small network's file would mostly consist of: each node's place in Python, and every shape."""
    ClearMetadataAndDocStringPass()(model)
    inner = [value for node in model.graph for value in node.outputs if not value.is_graph_output()]
    for value in inner:
        value.shape = value.type = None
    for value in (*inner, *model.graph.initializers.values(), *model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()


def _output_name(path: tuple) -> str:
    """``output`` for one tensor; for one of a dictionary or a list its keys, such as ``pyramid_0``."""
    name = "_".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path) or "output"
    return f"{name}_output" if name == INPUT else name


def _cause(error: BaseException) -> str:
    """The first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch.onnx prints and warns of on its way."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _pack(model: ir.Model) -> None:
    """Put integers of 2 to 4 bits into types of their own, and behind them what makes 8-bit ones of them again.

    A runtime computes that once, when it loads the file.
    """
    for name, value in list(model.graph.initializers.items()):
        layer, _, buffer = name.rpartition(".")
        stored = re.search(r"_([2-4])bit_\d+$", layer)
        if buffer != WEIGHT or stored is None:
            continue
        bits, wide = int(stored[1]), value.const_value.dtype
        kind, packed = PACKED_TYPES[bits, wide]
        finer = 2 ** (WIDEST - bits)  # what the lowered weight is a multiple of
        uses = list(value.uses())
        factor = ir.Value(name=f"{name}_factor", const_value=ir.tensor(float(finer), dtype=ir.DataType.FLOAT))
        model.graph.initializers.add(factor)
        exact = ir.node("Cast", [value], {"to": ir.AttrInt64("to", ir.DataType.FLOAT)})
        multiple = ir.node("Mul", [exact.outputs[0], factor])
        whole = ir.node("Cast", [multiple.outputs[0]], {"to": ir.AttrInt64("to", wide)})
        for node, word in ((exact, "exact"), (multiple, "multiple"), (whole, "wide")):
            node.outputs[0].name = f"{name}_{word}"
        model.graph.insert_before(model.graph[0], [exact, multiple, whole])
        for use in uses:
            use.node.replace_input_with(use.idx, whole.outputs[0])
        value.const_value = ir.Tensor((value.const_value.numpy() // finer).astype(packed), dtype=kind, name=name)
        value.dtype = kind


def _written(model: ir.Model, path: Path, layers: list[LoweredLayer]) -> ExportReport:
    """Write a model, and say where its bytes are."""
    weights = parameters = 0
    for name, value in model.graph.initializers.items():
        is_weight = name.endswith(f".{WEIGHT}") or (name.endswith(".weight") and len(value.shape) > 1)
        weights += value.const_value.nbytes if is_weight else 0
        parameters += 0 if is_weight else value.const_value.nbytes
    size = _write(model, path)
    return ExportReport(
        path=path,
        file_mib=size / MIB,
        weights_mib=weights / MIB,
        planned_weights_mib=sum(layer.weights * layer.bits for layer in layers) / 8 / MIB,
        parameters_mib=parameters / MIB,
        graph_mib=(size - weights - parameters) / MIB,
        layers=tuple(layers),
    )


def _write(model: ir.Model, path: Path) -> int:
    """Write a file whole or not at all; its size in bytes."""
    content = ir.serde.serialize_model(model)
    try:
        onnx.checker.check_model(content)
    except onnx.checker.ValidationError as error:
        raise ZeroQError(f"the network makes no valid ONNX file: {_cause(error)}") from error
    try:
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                size = file.write(content.SerializeToString())
            Path(scratch).chmod(0o644)
            Path(scratch).replace(path)
        finally:
            Path(scratch).unlink(missing_ok=True)
    except OSError as error:
        raise ZeroQError(f"cannot write {path} ({error.strerror}); choose another path") from error
    return size
