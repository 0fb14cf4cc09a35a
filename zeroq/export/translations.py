"""What ONNX makes of the two operators that quantization is exported as."""

from collections.abc import Callable
from typing import Any

import torch

import zeroq.export.operators  # noqa: F401 registers torch.ops.zeroq
from zeroq.export.extra import imported_from_extra

with imported_from_extra():
    import onnxscript

UINT8_HIGHEST = 255


def translations(opset: int) -> dict[Callable[..., Any], Callable[..., Any]]:
    """What a version of ONNX's operators makes of each, for torch.onnx.export(custom_translation_table=…)."""
    op = getattr(onnxscript, f"opset{opset}")

    # torch.onnx goes by annotations: what has none is a tensor.
    def to_quantize_dequantize(values, scale, zero_point, highest: int):  # type: ignore[no-untyped-def]
        integers = op.QuantizeLinear(values, scale, zero_point)
        if highest < UINT8_HIGHEST:
            # ONNX saturates at the ends of uint8; a grid of fewer bits ends sooner.
            integers = op.Min(integers, op.CastLike(op.Constant(value_int=highest), integers))
        return op.DequantizeLinear(integers, scale, zero_point)

    def to_dequantize(integers, scale, zero_point, axis: int):  # type: ignore[no-untyped-def]
        return op.DequantizeLinear(integers, scale, zero_point, axis=axis)

    return {
        torch.ops.zeroq.quantize_dequantize.default: to_quantize_dequantize,
        torch.ops.zeroq.dequantize.default: to_dequantize,
    }
