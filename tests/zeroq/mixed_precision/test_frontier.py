"""The frontier against scipy's integer programming, budgets, and widths that are given."""

import numpy
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

import zeroq
from tests.zeroq.mixed_precision.tables import assert_plans_add_up, brute_force, table
from zeroq.mixed_precision.sensitivity import SensitivityTable


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


def test_a_plan_s_own_mean_is_a_budget_that_holds_it():
    """Its mean times the number of weights may fall a hair below its size, in floats."""
    random = numpy.random.default_rng(0)
    for _ in range(60):
        omega = table(-numpy.sort(-random.random((5, 7)), axis=1), random.integers(1, 10**6, 5), range(2, 9))
        for size, _, plan in zeroq.pareto_frontier(omega)[::9]:
            assert zeroq.allocate(omega, average_bits=plan.average_bits).size_bits == size


@pytest.mark.parametrize("value", [-1e-12, float("nan"), float("inf")])
def test_sensitivities_are_finite_and_none_is_negative(value):
    omega = table(numpy.array([[0.2, 0.1], [0.3, value]]), [10, 10], [2, 4])
    for call in (zeroq.pareto_frontier, lambda table: zeroq.allocate(table, average_bits=4)):
        with pytest.raises(zeroq.ZeroQError, match="NaN, infinite or negative"):
            call(omega)


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
