"""Ranges of least squared error, against all pairs of ends in float64."""

import numpy
import pytest
import torch
from torch import nn

import zeroq
from zeroq.baselines.least_error import MOST_VALUES, least_error_ends, least_error_range, set_least_error_weights
from zeroq.layers import channel_axis
from zeroq.quantization.affine import affine_parameters, fake_quantize
from zeroq.quantization.convert import convert


def samples() -> torch.Tensor:
    """Rows with tails, without, on one side, and with a single outlier: [5, 400]."""
    random = numpy.random.default_rng(0)
    rows = [random.laplace(size=400), random.normal(size=400), random.uniform(-1, 3, 400), random.exponential(size=400)]
    rows.append(numpy.where(numpy.arange(400) == 7, 9.0, random.normal(size=400) / 4))
    return torch.tensor(numpy.stack(rows), dtype=torch.float32)


def error(values: numpy.ndarray, low: float, high: float, bits: int) -> float:
    """Σ (x − x̂)² on the grid from ``low`` to ``high`` whose zero point is an integer."""
    scale = (high - low) / (2**bits - 1)
    zero_point = numpy.clip(numpy.round(-low / scale), 0, 2**bits - 1)
    integers = numpy.clip(numpy.round(values / scale) + zero_point, 0, 2**bits - 1)
    return float(((integers - zero_point) * scale - values) @ ((integers - zero_point) * scale - values))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_next_to_the_best_of_all_pairs_of_ends(bits):
    values = samples()
    ends = least_error_ends(values, bits)
    for row, low, high in zip(values.double().numpy(), *(end.double().numpy() for end in ends), strict=True):
        shares = numpy.linspace(0, 1, 121)
        lows, highs = min(row.min(), 0) * shares, max(row.max(), 0) * shares
        best = min(error(row, one, other, bits) for one in lows for other in highs if other > one)
        assert error(row, low, high, bits) < 1.03 * best
        assert error(row, low, high, bits) <= error(row, min(row.min(), 0), max(row.max(), 0), bits) * (1 + 1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_next_to_the_best_scale_of_symmetric_grids(bits):
    values = samples()
    low, high = least_error_ends(values, bits, symmetric=True)
    assert torch.equal(low, -high)
    most = 2 ** (bits - 1) - 1
    for row, end in zip(values.double().numpy(), high.double().numpy(), strict=True):

        def of(end: float, row: numpy.ndarray = row) -> float:
            integers = numpy.clip(numpy.round(row / end * most), -most, most)
            return float(((integers * end / most - row) ** 2).sum())

        assert of(end) < 1.04 * min(of(share * abs(row).max()) for share in numpy.linspace(0.01, 1, 4000))


def test_no_range_is_wider_and_nothing_is_lost_where_there_is_none():
    values = torch.cat([samples(), torch.zeros(1, 400), torch.full((1, 400), 0.25)])
    low, high = least_error_ends(values, 4)
    assert bool((low >= values.amin(1).clamp_max(0)).all() and (high <= values.amax(1).clamp_min(0)).all())
    found = fake_quantize(values, affine_parameters(low, high, 4))
    assert torch.equal(found[5], values[5])
    assert torch.allclose(found[6], values[6])


def test_a_sample_says_nearly_the_same_of_a_large_activation():
    values = torch.randn(2, 4, 512, 512, generator=torch.Generator().manual_seed(0))
    assert values.numel() > MOST_VALUES
    sampled, exact = least_error_range(values, 3), least_error_ends(values.reshape(1, -1), 3)
    errors = [
        (fake_quantize(values, affine_parameters(low.view(()), high.view(()), 3)) - values).square().mean().item()
        for low, high in (sampled, exact)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=0.005)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_weights_of_every_kind_are_closer_than_with_min_max_ranges(per_channel, symmetric):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 6, 3, groups=2), nn.Conv2d(6, 6, 3, groups=6), nn.Linear(4, 5)
    )
    for layer in model:
        layer.weight.data = layer.weight.data**3  # with tails
    how = {"per_channel": per_channel, "symmetric": symmetric}
    plan = {"0": 3, "1": 3, "2": 32, "3": 2}
    nearest = convert(model, plan, 32, **how)
    quantized = convert(model, plan, 32, **how)
    set_least_error_weights(quantized, model, **how)
    for name in ("0", "1", "3"):
        layer, before, original = (net.get_submodule(name) for net in (quantized, nearest, model))
        assert layer.weight_bits == plan[name]
        assert layer.weight_scale.shape == before.weight_scale.shape
        rows = [each.weight.detach().movedim(channel_axis(layer), 0).flatten(1) for each in (layer, before, original)]
        errors = [(each - rows[2]).square().sum(1 if per_channel else None) for each in rows[:2]]
        assert bool((errors[0] <= errors[1] * (1 + 1e-5)).all())
        assert errors[0].sum() < 0.95 * errors[1].sum()
    assert torch.equal(quantized[2].weight, model[2].weight)


def test_a_plan_is_not_measured_with_them():
    with pytest.raises(zeroq.ZeroQError, match="weight_clipping='squared_error' is no part of what plans"):
        zeroq.Settings(weight_clipping="squared_error").check_values()
    with pytest.raises(zeroq.ZeroQError, match="rounded to the nearest"):
        zeroq.Settings(4, mixed=False, weight_clipping="squared_error", rounding="compensated").check_values()
    with pytest.raises(zeroq.ZeroQError, match="weight_clipping must be one of none, squared_error"):
        zeroq.Settings(4, mixed=False, weight_clipping="best").check_values()
