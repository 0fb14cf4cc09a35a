"""Quantization as two operators that torch.export keeps whole, and what ONNX makes of each."""

from collections.abc import Callable

import onnxscript
import torch

from zeroq.quantization.affine import AffineParameters, fake_quantize

UINT8_HIGHEST = 255


@torch.library.custom_op("zeroq::quantize_dequantize", mutates_args=())
def quantize_dequantize(
    values: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, highest: int
) -> torch.Tensor:
    """Values on the grid 0…highest of an activation; 0-dimensional ``scale`` (float32) and ``zero_point`` (uint8)."""
    return fake_quantize(values, AffineParameters(scale, zero_point.to(torch.int32), 0, highest))


@quantize_dequantize.register_fake
def _(values: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, highest: int) -> torch.Tensor:
    return torch.empty_like(values)


@torch.library.custom_op("zeroq::dequantize", mutates_args=())
def dequantize(integers: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int) -> torch.Tensor:
    """(integers − zero point) · scale, one scale a tensor, or one for each index of ``axis``."""
    shape = [-1 if dimension == axis and scale.dim() else 1 for dimension in range(integers.dim())]
    return (integers.float() - zero_point.float().view(shape)) * scale.view(shape)


@dequantize.register_fake
def _(integers: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int) -> torch.Tensor:
    return torch.empty_like(integers, dtype=torch.float32)


def translations(opset: int) -> dict[Callable, Callable]:
    """What a version of ONNX's operators makes of each, for torch.onnx.export(custom_translation_table=…)."""
    op = getattr(onnxscript, f"opset{opset}")

    def to_quantize_dequantize(values, scale, zero_point, highest: int):
        integers = op.QuantizeLinear(values, scale, zero_point)
        if highest < UINT8_HIGHEST:
            # ONNX saturates at the ends of uint8; a grid of fewer bits ends sooner.
            integers = op.Min(integers, op.CastLike(op.Constant(value_int=highest), integers))
        return op.DequantizeLinear(integers, scale, zero_point)

    def to_dequantize(integers, scale, zero_point, axis: int):
        return op.DequantizeLinear(integers, scale, zero_point, axis=axis)

    return {
        torch.ops.zeroq.quantize_dequantize.default: to_quantize_dequantize,
        torch.ops.zeroq.dequantize.default: to_dequantize,
    }
