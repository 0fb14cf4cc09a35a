"""Uniform affine quantization: x ≈ scale · (q − zero point), q an integer of k bits (ONNX convention)."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import torch
from torch._subclasses.fake_tensor import FakeTensor

from zeroq.errors import ZeroQError
from zeroq.layers import integer_range

SMALLEST_BITS, LARGEST_BITS, FLOAT_BITS = 2, 8, 32
# Half of a range, as a share of its end that is farther from 0: zero points have 32 bits.
NARROWEST = 2.0**-22
WeightRange = Literal["with_zero", "min_max"]


class AffineParameters(NamedTuple):
    """``scale`` (float32) and ``zero_point`` (int32): 0-dimensional, or one value a channel.

    ``lowest`` and ``highest`` are the smallest and largest integer of the grid.
    """

    scale: torch.Tensor
    zero_point: torch.Tensor
    lowest: int
    highest: int


class Granularity(TypedDict):
    """Whether each output channel of a weight has a range of its own, whether zero points are fixed at 0, and whether
    ranges that are asymmetric are extended to hold 0.
    """

    per_channel: bool
    symmetric: bool
    weight_range: WeightRange


def check_bits(bits: float) -> None:
    """Raise ZeroQError unless ``bits`` is 2…8, or 32 for "not quantized"."""
    if isinstance(bits, bool) or bits not in (*range(SMALLEST_BITS, LARGEST_BITS + 1), FLOAT_BITS):
        raise ZeroQError(f"bits must be {SMALLEST_BITS}…{LARGEST_BITS}, or {FLOAT_BITS} for float, not {bits}")


def check_weight_range(weight_range: str, *, symmetric: bool) -> None:
    """Raise ZeroQError for a range of weights that does not exist, or that symmetric ones do not have."""
    if weight_range not in get_args(WeightRange):
        raise ZeroQError(f"weight_range must be one of {', '.join(get_args(WeightRange))}, not {weight_range!r}")
    if symmetric and weight_range != "with_zero":
        raise ZeroQError(
            f"weights with zero points fixed at 0, as placement integer has them, have no weight_range "
            f"{weight_range}; leave it out, or symmetric=False"
        )


def affine_parameters(
    low: torch.Tensor, high: torch.Tensor, bits: int, *, symmetric: bool = False, with_zero: bool = True
) -> AffineParameters:
    """Scale and zero point whose grid spans [low, high], extended to hold 0, which is exact on every grid.

    ``low`` and ``high`` have the same shape: 0-dimensional, or one value a channel. Asymmetric grids run
    from 0 to 2ᵏ − 1; symmetric ones from −(2ᵏ⁻¹ − 1) to 2ᵏ⁻¹ − 1 with zero point 0. A range without
    width gets scale 1. Without ``with_zero`` the range is not extended, and the zero point of one that does not
    hold 0 lies outside of the grid.
    """
    check_bits(bits)
    low, high = low.float(), high.float()
    if with_zero:
        low, high = low.clamp_max(0), high.clamp_min(0)
    lowest, highest = integer_range(bits, symmetric=symmetric)
    if symmetric:
        scale = _positive(torch.maximum(-low, high) / highest)
        return AffineParameters(scale, torch.zeros_like(scale, dtype=torch.int32), lowest, highest)
    # Halved before the subtraction: the width of a range near float32's limits would overflow.
    half = high / 2 - low / 2
    if not with_zero:
        half = torch.maximum(half, torch.maximum(low.abs(), high.abs()) * NARROWEST)
    scale = _positive(half / highest * 2)
    zero_point = (-low / scale).round()
    if with_zero:
        zero_point = zero_point.clamp(0, highest)
    return AffineParameters(scale, zero_point.to(torch.int32), lowest, highest)


def fake_quantize(values: torch.Tensor, parameters: AffineParameters, *, axis: int = 0) -> torch.Tensor:
    """Quantize and dequantize, rounding to nearest: the values that integer arithmetic would see.

    Per-channel parameters apply along ``axis``. Computed in float32 at least, returned in the type of ``values``.
    """
    scale: Any  # a tensor, or a Python number
    zero_point: Any
    scale, zero_point, lowest, highest = parameters
    if scale.dim():
        shape = [1] * values.dim()
        shape[axis] = -1
        scale, zero_point = scale.view(shape), zero_point.view(shape)
    elif scale.device.type == "cpu" and not isinstance(values, FakeTensor):
        # The same values as Python numbers: torch's loops over them are four times as fast as over a 0-dimensional
        # tensor. On a GPU reading them would wait for it, and torch's FakeTensors, which tracing uses, have no values.
        scale, zero_point = scale.item(), zero_point.item()
    exact = values.to(torch.promote_types(values.dtype, torch.float32))
    # clamp(round(x / s) + z, lowest, highest) − z, without adding z twice; one allocation. torch's own
    # fake_quantize also computes a gradient mask, and takes six times as long on a CPU.
    quantized = exact.div(scale).round_().clamp_(lowest - zero_point, highest - zero_point).mul_(scale)
    return quantized.to(values.dtype)


def weight_parameters(
    weight: torch.Tensor,
    bits: int,
    *,
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    axis: int = 0,
) -> AffineParameters:
    """Min–max parameters of a weight whose output channels lie along ``axis``: one pair a channel, or one in all."""
    check_finite([weight])
    low, high = _lowest_and_highest(weight, per_channel=per_channel, axis=axis)
    return affine_parameters(low, high, bits, symmetric=symmetric, with_zero=weight_range == "with_zero")


def quantized_weight(
    weight: torch.Tensor,
    bits: int,
    *,
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    axis: int = 0,
) -> torch.Tensor:
    """A weight after quantize–dequantize; 32 bits return it as it is. Arguments as in ``weight_parameters``."""
    if bits != FLOAT_BITS:
        check_finite([weight])
    how: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    return quantized_weights(weight, (bits,), axis=axis, **how)[0]


def quantized_weights(
    weight: torch.Tensor,
    widths: Sequence[int],
    *,
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    axis: int = 0,
) -> list[torch.Tensor]:
    """``quantized_weight`` at each of several widths, with one look at the weight's range.

    It never waits for a GPU, and so does not ask whether the weight is finite: ``check_finite`` does.
    """
    for bits in widths:
        check_bits(bits)
    values = weight.detach()
    if set(widths) <= {FLOAT_BITS}:
        return [values for _ in widths]
    low, high = _lowest_and_highest(weight, per_channel=per_channel, axis=axis)

    def rounded(bits: int) -> torch.Tensor:
        with_zero = weight_range == "with_zero"
        return fake_quantize(
            values, affine_parameters(low, high, bits, symmetric=symmetric, with_zero=with_zero), axis=axis
        )

    return [values if bits == FLOAT_BITS else rounded(bits) for bits in widths]


def check_finite(weights: Iterable[torch.Tensor]) -> None:
    """Raises ZeroQError where a weight of a network holds NaN or infinite values; waits for a GPU once."""
    found = [weight.isfinite().all() for weight in weights]
    if found and not torch.stack(found).all():
        raise ZeroQError("a weight holds NaN or infinite values; the network is damaged or did not train")


def _lowest_and_highest(weight: torch.Tensor, *, per_channel: bool, axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    flat = weight.detach().movedim(axis, 0).flatten(1) if per_channel else weight.detach().reshape(1, -1)
    low, high = flat.amin(1), flat.amax(1)
    return (low, high) if per_channel else (low.squeeze(0), high.squeeze(0))


def _positive(scale: torch.Tensor) -> torch.Tensor:
    """Scale 1 where a range has no width that float32 can divide by."""
    return torch.where(scale > torch.finfo(torch.float32).tiny, scale, torch.ones_like(scale))
