"""Quantization as two operators that torch.export keeps whole."""

import torch

from zeroq.quantization.affine import AffineParameters, fake_quantize


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
