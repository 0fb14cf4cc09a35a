"""A network → ONNX in memory, as torch.onnx makes it, without what a runtime has no use for."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import nn
from torch.utils import _pytree as pytree

from zeroq.borrowing import copied
from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra
from zeroq.export.lowering import WIDEST, LoweredLayer
from zeroq.export.translations import translations
from zeroq.modules import evaluating, forward

with imported_from_extra():
    import ml_dtypes
    import onnx_ir as ir
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass, DeduplicateHashedInitializersPass

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


def onnx_model(network: nn.Module, example: torch.Tensor, opset: int) -> ir.Model:
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
            raise ZeroQError(f"torch.onnx cannot export the network: {cause(error)}") from error
    model = cast(torch.onnx.ONNXProgram, program).model
    for value in model.graph.initializers.values():
        array = content_of(value).numpy()
        if not array.flags.c_contiguous:  # a constant may be a view of another
            value.const_value = ir.tensor(array.copy(order="C"), name=value.name)
    DeduplicateHashedInitializersPass()(model)  # several calls of one layer
    _separate_zero_points(model)
    _pack(model)
    _strip(model)
    model.opset_imports[""] = opset  # between 21 and 25 the operators that torch.onnx writes gained types alone
    model.metadata_props[f"{PREFIX}outputs"] = pytree.treespec_dumps(pytree.tree_structure(outputs))
    return model


def content_of(initializer: ir.Value) -> ir.TensorProtocol:
    """The tensor that an initializer of a graph always has."""
    return cast(ir.TensorProtocol, initializer.const_value)


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


def _separate_zero_points(model: ir.Model) -> None:
    """Give every weight a zero point of its own.

    Where onnxruntime makes uint8 of int8 weights, for sums that are right (``runtime.EXACT_SUMS``), it refuses a file
    in which two of them share one.
    """
    taken: dict[ir.Value, ir.Value] = {}
    for node in model.graph:
        if node.op_type != "DequantizeLinear":
            continue
        weight, _, zero_point = node.inputs
        if not (weight and zero_point and weight.is_initializer() and zero_point.is_initializer()):
            continue
        if taken.setdefault(zero_point, weight) is weight:
            continue
        name = f"{weight.name}.zero_point"
        own = ir.Value(name=name, const_value=ir.tensor(content_of(zero_point).numpy(), name=name))
        node.replace_input_with(2, model.graph.initializers.setdefault(name, own))


def _strip(model: ir.Model) -> None:
    """Remove what a small network's file would mostly consist of: each node's place in Python, and every shape."""
    ClearMetadataAndDocStringPass()(model)
    inner = [value for node in model.graph for value in node.outputs if not value.is_graph_output()]
    for value in inner:
        value.shape = value.type = None
    for value in (*inner, *model.graph.initializers.values(), *model.graph.inputs, *model.graph.outputs):
        value.metadata_props.clear()


def _output_name(path: tuple[Any, ...]) -> str:
    """``output`` for one tensor; for one of a dictionary or a list its keys, such as ``pyramid_0``."""
    name = "_".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path) or "output"
    return f"{name}_output" if name == INPUT else name


def cause(error: BaseException) -> str:
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
        bits, wide = int(stored[1]), content_of(value).dtype
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
        value.const_value = ir.Tensor((content_of(value).numpy() // finer).astype(packed), dtype=kind, name=name)
        value.dtype = kind
