"""The frontier against brute force and against scipy's integer programming."""

from itertools import product

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

import zeroq
from zeroq.mixed_precision import knapsack
from zeroq.mixed_precision.sensitivity import SensitivityTable


def table(values: numpy.ndarray, parameters, bits) -> SensitivityTable:
    names = [f"layer{index}" for index in range(len(values))]
    frame = pandas.DataFrame(values, index=names, columns=list(bits))
    return SensitivityTable.of(frame, dict(zip(names, map(int, parameters), strict=True)))


def brute_force(omega: SensitivityTable) -> list[tuple[int, float]]:
    choices = [[(omega.parameters[name] * k, omega.loc[name, k]) for k in omega.columns] for name in omega.index]
    plans = sorted(tuple(sum(column) for column in zip(*plan, strict=True)) for plan in product(*choices))
    frontier, best = [], float("inf")
    for size, cost in plans:
        if cost < best:
            frontier.append((size, cost))
            best = cost
    return frontier


def assert_plans_add_up(omega: SensitivityTable, points) -> None:
    for point in points:
        assert list(point.plan) == list(omega.index)
        assert sum(omega.parameters[name] * bits for name, bits in point.plan.items()) == point.size_bits
        cost = sum(omega.loc[name, bits] for name, bits in point.plan.items())
        assert point.sensitivity == pytest.approx(cost, rel=1e-12)


@pytest.fixture(params=["lists", "tables", "both"])
def _every_form(request):
    """Lists alone, tables alone, and changing often between them; tables in blocks that layers span."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knapsack, "CELLS_PER_ENTRY", {"lists": 0, "tables": float("inf"), "both": 2}[request.param])
        patch.setattr(knapsack, "BLOCK", 16)
        yield


@st.composite
def instances(draw):
    layers = draw(st.integers(1, 6))
    bits = sorted(draw(st.sets(st.integers(2, 8), min_size=1, max_size=4)))
    # Multiples of 1/64, so that sums are exact in any order; ties are frequent, as are non-monotone rows.
    value = st.integers(0, 256).map(lambda number: number / 64)
    values = draw(st.lists(st.lists(value, min_size=len(bits), max_size=len(bits)), min_size=layers, max_size=layers))
    # Some layers of coarser sizes than others, as the table form tells them apart.
    weights = st.builds(int.__mul__, st.integers(1, 12), st.sampled_from([1, 4, 6, 16]))
    parameters = draw(st.lists(weights, min_size=layers, max_size=layers))
    return table(numpy.array(values), parameters, bits)


@pytest.mark.usefixtures("_every_form")
@settings(deadline=None, max_examples=60)
@given(instances())
def test_equals_brute_force(omega):
    frontier = zeroq.pareto_frontier(omega)
    assert [(point.size_bits, point.sensitivity) for point in frontier] == brute_force(omega)
    assert_plans_add_up(omega, frontier)


@pytest.mark.parametrize("unit", [1, 7, 64])
def test_lists_and_tables_agree_on_many_layers(monkeypatch, unit):
    generator = numpy.random.default_rng(unit)
    layers, bits = 40, numpy.arange(2, 9)
    values = numpy.exp(generator.normal(-4, 2, (layers, 1)) - 1.3 * (bits - 2) + generator.normal(0, 0.6, (layers, 7)))
    omega = table(values, unit * generator.integers(1, 20, layers) * 2 ** generator.integers(0, 8, layers), bits)
    as_chosen = zeroq.pareto_frontier(omega)
    assert_plans_add_up(omega, as_chosen[::499])
    for cells_per_entry in (0, float("inf")):
        monkeypatch.setattr(knapsack, "CELLS_PER_ENTRY", cells_per_entry)
        other = zeroq.pareto_frontier(omega)
        assert numpy.array_equal(other.size_bits, as_chosen.size_bits)
        assert numpy.array_equal(other.sensitivities, as_chosen.sensitivities)
        assert_plans_add_up(omega, other[::499])


def test_sizes_without_a_common_divisor_that_no_table_could_hold():
    random = numpy.random.default_rng(5)
    omega = table(random.integers(0, 2**20, (7, 4)) / 2**20, random.integers(10**11, 10**12, 7), (2, 3, 4, 8))
    frontier = zeroq.pareto_frontier(omega)
    assert [(point.size_bits, point.sensitivity) for point in frontier] == brute_force(omega)
    assert_plans_add_up(omega, frontier)


def test_of_equal_plans_one_is_kept():
    omega = table(numpy.array([[2.0, 1, 1], [2, 1, 1], [1, 1, 0]]), [4, 4, 4], [2, 4, 8])
    frontier = zeroq.pareto_frontier(omega)
    # There are two plans of 32 bits, and those of 48 and 56 bits are as sensitive as those of 32 and 40.
    assert frontier.size_bits.tolist() == [24, 32, 40, 64]
    assert frontier.sensitivities.tolist() == [5, 4, 3, 2]
    assert_plans_add_up(omega, frontier)


@pytest.mark.parametrize(("seed", "unit"), [(0, 1), (1, 1), (2, 4608)])  # two of lists, one of a table
def test_equals_integer_programming_at_twenty_budgets(seed, unit):
    generator = numpy.random.default_rng(seed)
    layers, bits = 60, numpy.arange(2, 9)
    values = numpy.exp(generator.normal(-4, 2, (layers, 1)) - 1.3 * (bits - 2) + generator.normal(0, 0.3, (layers, 7)))
    parameters = unit * generator.integers(max(100 // unit, 1), 500_000 // unit, layers)
    omega = table(values, parameters, bits)
    one_width_each = LinearConstraint(numpy.kron(numpy.eye(layers), numpy.ones(7)), 1, 1)
    sizes = numpy.outer(parameters, bits).ravel()
    for average in numpy.linspace(2.05, 7.9, 20):
        budget = average * parameters.sum()
        # Scaled up, because the solver stops at an absolute gap of 1e-6.
        solution = milp(
            1e5 * values.ravel(),
            integrality=numpy.ones(layers * 7),
            bounds=Bounds(0, 1),
            constraints=[one_width_each, LinearConstraint(sizes[None] / parameters.sum(), -numpy.inf, average)],
            options={"mip_rel_gap": 0},
        )
        plan = zeroq.allocate(omega, average_bits=average)
        assert plan.size_bits <= budget
        assert plan.sensitivity == pytest.approx(solution.fun / 1e5, rel=1e-6)


def test_budgets_in_bits_and_mib_agree():
    omega = table(numpy.array([[3.0, 2, 1], [6, 2, 0.5]]), [2**20, 2**21], [2, 4, 8])
    plan = zeroq.allocate(omega, average_bits=4)
    assert plan == {"layer0": 4, "layer1": 4}
    assert plan.size_bits == 12 * 2**20
    assert plan.average_bits == 4
    assert zeroq.allocate(omega, weights_mib=1.5) == plan


def test_wrong_budgets_and_tables():
    omega = table(numpy.array([[3.0, 2, 1]]), [10], [2, 4, 8])
    with pytest.raises(zeroq.ZeroQError, match=r"below the smallest candidate: .* 2 bits"):
        zeroq.allocate(omega, average_bits=1.9)
    with pytest.raises(zeroq.ZeroQError, match="finite"):
        zeroq.allocate(omega, average_bits=float("nan"))
    for budgets in ({}, {"average_bits": 4, "weights_mib": 1}):
        with pytest.raises(zeroq.ZeroQError, match="one budget"):
            zeroq.allocate(omega, **budgets)
    with pytest.raises(zeroq.ZeroQError, match="NaN"):
        zeroq.pareto_frontier(table(numpy.array([[float("nan")]]), [1], [2]))


@pytest.mark.usefixtures("_every_form")
def test_fixed_widths_are_kept():
    random = numpy.random.default_rng(3)
    omega = table(random.random((5, 3)), random.integers(1, 50, 5), (2, 4, 8))
    only = omega.copy()
    only.loc["layer2", [2, 8]] = 1e9  # so dear that no plan of another width survives below it
    affordable = [found for found in brute_force(SensitivityTable.of(only, omega.parameters)) if found[1] < 1e9]
    points = zeroq.pareto_frontier(omega, fixed={"layer2": 4})
    assert [point.size_bits for point in points] == [size for size, _ in affordable]
    assert [point.sensitivity for point in points] == pytest.approx([cost for _, cost in affordable])
    assert {point.plan["layer2"] for point in points} == {4}
    everything = dict.fromkeys(omega.index, 4)
    (point,) = zeroq.pareto_frontier(omega, fixed=everything)
    assert point.plan == everything
    assert_plans_add_up(omega, [point])
    for wrong in ({"layer9": 4}, {"layer2": 3}):
        with pytest.raises(zeroq.ZeroQError, match="fixed names layers or widths that are not in"):
            zeroq.pareto_frontier(omega, fixed=wrong)


@pytest.mark.parametrize("share", [20, 48, 90])  # of the weights, in percent
@pytest.mark.parametrize(("average", "expected"), [(4, 4), (3, 2), (5, 4), (2.1, 2), (8, 8), (40, 8)])
def test_layers_without_sensitivity_get_the_mean_and_take_nothing_from_the_others(average, expected, share):
    # As a detector's box regression: its class scores do not depend on the second layer.
    omega = table(
        numpy.array([[3.0, 1, 0.1], [0, 0, 0], [2, 1, 0.5]]), (50, 100 * share // (100 - share), 50), (2, 4, 8)
    )
    plan = zeroq.allocate(omega, average_bits=average)
    assert plan["layer1"] == expected
    measured = {name: plan[name] for name in ("layer0", "layer2")}
    assert 50 * sum(measured.values()) <= 100 * average + (average - expected) * omega.parameters["layer1"]
    alone = zeroq.allocate(SensitivityTable.of(omega.drop("layer1"), omega.parameters), average_bits=average)
    assert sum(omega.loc[name, bits] for name, bits in measured.items()) <= alone.sensitivity
