"""Each property of an operator, of every kind that has it, by what the operator computes."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.zeroq.graph.operator_calls import (
    CONSTANTS,
    EVERY,
    a_call,
    compute,
    example,
    same,
    values,
    with_property,
)
from zeroq.graph import operators


def test_no_kind_is_two_operators():
    kinds = [kind for _, kind in EVERY]
    assert len(set(kinds)) == len(kinds)


@with_property("elementwise")
def test_elementwise(row, kind):
    graph, node = example(kind)
    given = values(kind)
    order = tuple(range(given.dim()))
    assert same(compute(graph, given.flip(order)), compute(graph, given).flip(order))
    assert same(compute(graph, 2.5 * given), 2.5 * compute(graph, given))
    assert all(operators.scales(graph, node, axes) for axes in (0, 1, 2, 3))


@with_property("within_channels")
def test_within_channels(row, kind):
    graph, node = example(kind)
    given = values(kind)
    output = compute(graph, given)
    assert same(compute(graph, 2.5 * given), 2.5 * output)
    assert output.dim() == row.within_channels + 2
    for channel in range(4):
        changed = given.clone()
        changed[:, channel] += 1
        others = [each for each in range(4) if each != channel]
        assert same(compute(graph, changed)[:, others], output[:, others])
    assert [operators.scales(graph, node, axes) for axes in (0, 1, 2, 3)] == [
        axes == row.within_channels for axes in (0, 1, 2, 3)
    ]


@with_property("shifts")
def test_a_constant_of_a_channel_passes(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    constants = CONSTANTS.view(1, 4, *(1 for _ in given.shape[2:])).expand_as(given)
    passed = compute(graph, constants)
    assert same(compute(graph, given + constants), compute(graph, given) + passed)
    expected = CONSTANTS.view(1, 4, 1).expand(2, 4, passed.numel() // 8)  # flattened or not
    assert same(passed.reshape(2, 4, -1), expected)


@pytest.mark.parametrize(
    ("kind", "arguments", "named", "ends"),
    [
        *((kind, (), {}, (0, math.inf)) for kind in (nn.ReLU, functional.relu, torch.relu)),
        *((kind, (), {}, (0, math.inf)) for kind in ("relu",)),
        *((kind, (), {}, (0, 6)) for kind in (nn.ReLU6, functional.relu6)),
        *((kind, (), {}, (-1, 1)) for kind in (nn.Hardtanh, functional.hardtanh)),
        *((kind, (-2, 3.5), {}, (-2, 3.5)) for kind in (nn.Hardtanh, functional.hardtanh)),
        (functional.hardtanh, (), {"max_val": 6, "min_val": 0}, (0, 6)),
        *((kind, (0, 6), {}, (0, 6)) for kind in (torch.clamp, torch.clip)),
        *((kind, (None, 6), {}, (-math.inf, 6)) for kind in ("clamp", "clip")),
        *((kind, (), {"min": 1}, (1, math.inf)) for kind in (torch.clamp, "clamp")),
        *((kind, (1,), {}, (1, math.inf)) for kind in (torch.clamp_min, "clamp_min")),
    ],
)
def test_clamps(kind, arguments, named, ends):
    graph, node = a_call(kind, *arguments, **named)
    given = values()
    assert operators.clamps(graph, node)
    assert operators.clamp_ends(graph, node) == ends
    assert operators.rectifies(graph, node) == (ends == (0, math.inf))
    assert torch.equal(compute(graph, given), given.clamp(*ends))


def test_every_clamp_has_ends():
    for row, kind in EVERY:
        graph, node = example(kind)
        assert (
            operators.clamps(graph, node) == (operators.clamp_ends(graph, node) is not None) == bool(row.clamps_between)
        )
    graph, node = a_call(torch.clamp, torch.zeros(1))
    assert operators.clamp_ends(graph, node) is None


@with_property("moves")
def test_moving_gives_no_other_values(row, kind):
    graph, node = example(kind)
    given = values(kind)
    moved = graph(given)[0] if kind in operators.GIVE_INDICES else compute(graph, given)
    found = torch.isin(moved.to(given), torch.cat([given.flatten(), torch.zeros(1)])).all()
    assert operators.moves(graph, node) == found == (kind is not nn.UpsamplingBilinear2d)
    assert operators.computes(graph, node) != operators.moves(graph, node)


@pytest.mark.parametrize(
    ("kind", "arguments", "named", "moving"),
    [
        *((nn.Upsample, (None, 2, mode), {}, mode != "bilinear") for mode in ("nearest", "nearest-exact", "bilinear")),
        (functional.interpolate, (None, 2, "bilinear"), {}, False),
        (functional.interpolate, (), {"scale_factor": 2, "mode": "bilinear"}, False),
        (functional.interpolate, (), {"scale_factor": 2}, True),
        (functional.pad, ((1, 1), "constant", 0.5), {}, False),
        (functional.pad, ((1, 1),), {"value": 0.5}, False),
        (functional.pad, ((1, 1, 1, 1), "reflect"), {}, True),
        (functional.pad, ((1, 1),), {"value": 0}, True),
        (functional.silu, (), {}, False),
    ],
)
def test_moving_by_options(kind, arguments, named, moving):
    graph, node = a_call(kind, *arguments, **named)
    given = values()
    assert operators.moves(graph, node) == moving
    assert torch.isin(compute(graph, given), torch.cat([given.flatten(), torch.zeros(1)])).all() == moving


@with_property("passes_moments")
def test_means_deviations_and_ends_pass_alike(row, kind):
    """Sums with weights of 0 and more, and largest values: they keep an order, scale, and let a constant pass."""
    graph, _ = example(kind)
    given = values(kind)
    ones = torch.ones_like(given)
    higher = given + torch.rand(given.shape, generator=torch.Generator().manual_seed(1))
    assert (compute(graph, higher) >= compute(graph, given)).all()
    assert same(compute(graph, 2.5 * given), 2.5 * compute(graph, given))
    assert same(compute(graph, given + ones), compute(graph, given) + compute(graph, ones))


@with_property("pointwise")
def test_what_works_place_by_place(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    output = compute(graph, given)
    order = tuple(range(given.dim()))
    assert torch.allclose(compute(graph, given.flip(order)), output.flip(order), equal_nan=True)
    changed = given.clone()
    changed[0, 0, 0, 0] += 1
    assert torch.allclose(compute(graph, changed).flatten()[1:], output.flatten()[1:], equal_nan=True)


@with_property("contracts")
def test_sums_of_products(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    assert same(compute(graph, given), torch.einsum("...ij,...jk->...ik", given, given))


@with_property("normalizes")
def test_normalizing_gives_mean_0_and_deviation_1(row, kind):
    graph, node = example(kind)
    output = compute(graph, values(kind)).detach()
    axis = -1 if row.normalizes == "last" else 1
    mean = 0 if "rms" in node.name or kind is nn.RMSNorm else output.mean()
    assert mean == pytest.approx(0, abs=1e-5)
    assert output.square().mean() == pytest.approx(1, abs=1e-4)
    module = operators.called(graph, node)
    weight = getattr(module, "weight", None)
    if weight is not None:  # one for each place along the axis
        weight.data = torch.arange(1.0, 1 + output.shape[axis])
        factors = (compute(graph, values(kind)) / output).movedim(axis, -1)
        assert same(factors, weight.data.expand_as(factors))


@with_property("weighs")
def test_weights(row, kind):
    graph, _ = example(kind)
    output = compute(graph, values(kind))
    assert (output >= 0).all()
    assert same(output.sum(1), torch.ones(2, 6, 6))


@with_property("attends")
def test_attention_stays_within_values(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    output = compute(graph, given)
    assert (output <= given.amax(-2, keepdim=True) + 1e-5).all()
    assert (output >= given.amin(-2, keepdim=True) - 1e-5).all()


@with_property("fills")
def test_what_fills_looks_at_no_value(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    assert torch.equal(compute(graph, given), compute(graph, 2 * given))


@with_property("joins")
def test_joining_keeps_all_values(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    assert torch.equal(compute(graph, given).flatten().sort().values, torch.cat([given, given]).flatten().sort().values)


@with_property("adds")
def test_adding(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    assert torch.equal(compute(graph, given), 2 * given)


@pytest.mark.parametrize(
    ("name", "result"),
    [("subtracts", torch.zeros_like), ("multiplies", torch.square), ("divides", torch.ones_like)],
)
def test_other_arithmetic(name, result):
    kinds = [kind for row, kind in EVERY if getattr(row, name)]
    assert kinds
    for kind in kinds:
        assert torch.equal(compute(example(kind)[0], values(kind)), result(values(kind))), kind
