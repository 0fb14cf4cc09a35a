"""Affine arithmetic against a float64 reference."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zeroq import ZeroQError
from zeroq.quantization.affine import (
    affine_parameters,
    check_bits,
    fake_quantize,
    quantized_weight,
    quantized_weights,
    weight_parameters,
)
from zeroq.quantization.layers import quantize_weight


def reference(
    values: numpy.ndarray, low: float, high: float, bits: int, symmetric: bool
) -> tuple[numpy.ndarray, float]:
    """Quantize–dequantize in float64, straight from the definition; also the scale."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        top = 2 ** (bits - 1) - 1
        scale, zero, bottom = max(-low, high) / top, 0, -top
    else:
        bottom, top = 0, 2**bits - 1
        scale = (high - low) / top
        zero = numpy.rint(-low / scale) if scale else 0
    scale = scale or 1.0
    return scale * (numpy.clip(numpy.rint(values / scale) + zero, bottom, top) - zero), scale


@settings(deadline=None, max_examples=200)
@given(
    seed=st.integers(0, 10**6),
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
    shift=st.floats(-3, 3),
)
def test_agrees_with_float64(seed, bits, symmetric, spread, shift):
    values = spread * (torch.randn(200, generator=torch.Generator().manual_seed(seed)) + shift)
    parameters = affine_parameters(values.min(), values.max(), bits, symmetric=symmetric)
    expected, scale = reference(values.double().numpy(), values.min().item(), values.max().item(), bits, symmetric)
    difference = numpy.abs(fake_quantize(values, parameters).double().numpy() - expected)
    # float32 may round the other way only where a value lies half way between two levels (or the zero point does).
    halfway = numpy.abs(values.double().numpy() / scale % 1 - 0.5) < 1e-3
    assert (difference[~halfway] < 1e-4 * scale + 1e-5 * abs(expected[~halfway])).all() or zero_point_tie(
        values, bits, symmetric
    )
    assert (difference < 1.001 * scale).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_range_for_all_is_bit_for_bit_one_range_a_channel(dtype):
    """A CPU computes with the first as Python numbers, and with the second as a tensor."""
    values = 3 * torch.randn(40, 500, generator=torch.Generator().manual_seed(1)).to(dtype)
    for bits in range(2, 9):
        parameters = affine_parameters(values.min(), values.max(), bits)
        many = parameters._replace(scale=parameters.scale.expand(40), zero_point=parameters.zero_point.expand(40))
        assert torch.equal(fake_quantize(values, parameters), fake_quantize(values, many))


def zero_point_tie(values: torch.Tensor, bits: int, symmetric: bool) -> bool:
    low, high = min(values.min().item(), 0), max(values.max().item(), 0)
    return not symmetric and abs(-low / (high - low) * (2**bits - 1) % 1 - 0.5) < 1e-3


@pytest.mark.parametrize("bits", range(2, 9))
def test_grid_has_all_levels_and_an_exact_zero(bits):
    values = torch.linspace(-0.7, 1.9, 10_001)
    quantized = fake_quantize(values, affine_parameters(values.min(), values.max(), bits))
    assert len(quantized.unique()) == 2**bits
    assert (quantized == 0).any()


def test_range_is_extended_to_zero():
    values = torch.linspace(5, 6, 100)
    assert affine_parameters(values.min(), values.max(), 8).zero_point == 0
    assert fake_quantize(torch.zeros(1), affine_parameters(values.min(), values.max(), 8)) == 0


def test_constant_zero_stays_zero():
    zero = torch.zeros(3)
    assert torch.equal(fake_quantize(zero, affine_parameters(zero.min(), zero.max(), 4)), zero)


def test_per_channel_is_per_tensor_of_each_channel():
    weight = torch.randn(6, 3, 3, 3) * torch.logspace(-2, 2, 6).view(-1, 1, 1, 1)
    together = quantized_weight(weight, 4)
    for channel in range(6):
        alone = quantized_weight(weight[channel : channel + 1], 4, per_channel=False)
        assert torch.equal(together[channel : channel + 1], alone)


def test_weights_have_an_asymmetric_grid_a_channel_unless_told_otherwise():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 3)
    weight = layer.weight.detach() + torch.linspace(-0.3, 0.3, 5).view(-1, 1, 1, 1)
    expected = [
        reference(channel.double().numpy(), channel.min().item(), channel.max().item(), 4, symmetric=False)[0]
        for channel in weight
    ]
    layer.weight.data.copy_(weight)
    quantize_weight(layer, 4)
    for found in (layer.weight, quantized_weight(weight, 4), *quantized_weights(weight, (4,))):
        numpy.testing.assert_allclose(found.detach().numpy(), numpy.stack(expected), atol=1e-6)


def test_one_pair_a_channel_is_a_row_and_one_in_all_has_no_dimension():
    """Of one channel too: files and state dicts tell the two apart by it."""
    for weight in (torch.randn(1, 3, 2, 2), torch.randn(4, 3, 2, 2)):
        for symmetric in (True, False):
            rows = weight_parameters(weight, 4, symmetric=symmetric)
            assert rows.scale.shape == rows.zero_point.shape == (len(weight),)
            one = weight_parameters(weight, 4, per_channel=False, symmetric=symmetric)
            assert one.scale.shape == one.zero_point.shape == ()


def test_quantizing_twice_changes_nothing():
    weight = torch.randn(4, 9)
    once = quantized_weight(weight, 3, symmetric=True)
    assert torch.allclose(quantized_weight(once, 3, symmetric=True), once, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 9, 0, -4, 16, 2.5, True])
def test_other_bits_are_refused(bits):
    with pytest.raises(ZeroQError, match="2…8"):
        check_bits(bits)


def test_huge_and_tiny_ranges_have_finite_grids():
    """The width of a range near float32's limits overflows, and one below them divides by 0."""
    low, high = torch.tensor([-3e38, -1e-44, 0.0, -1e-40]), torch.tensor([3e38, 1e-44, 1e-42, 1e-40])
    scale, zero_point, _, _ = affine_parameters(low, high, 8)
    assert scale.isfinite().all()
    assert scale[0].item() == pytest.approx(6e38 / 255, rel=1e-6)
    assert (scale[1:] == 1).all()  # no grid that float32 can divide by: all is 0
    assert ((zero_point >= 0) & (zero_point <= 255)).all()
    values = torch.stack([low, high])
    assert fake_quantize(values, affine_parameters(low, high, 8), axis=1).isfinite().all()
