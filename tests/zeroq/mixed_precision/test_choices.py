"""Frontiers of any cost against all plans: widths, pairs of widths, measured times."""

from itertools import product

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeroq
from tests.zeroq.mixed_precision.tables import table
from zeroq.mixed_precision.choices import cost_frontier, fixed_without_sensitivity
from zeroq.mixed_precision.pairs import (
    TIME_UNIT_MS,
    allocate_pairs,
    bit_operation_costs,
    check_times,
    pair_sensitivities,
    time_costs,
)


def all_plans(omega: pandas.DataFrame, costs: pandas.DataFrame) -> list[tuple[int, float]]:
    """(cost, Ω) of every choice of one option for each layer."""
    columns = range(len(omega.columns))
    found = []
    for plan in product(columns, repeat=len(omega)):
        rows = list(enumerate(plan))
        found.append((sum(costs.iloc[row, own] for row, own in rows), sum(omega.iloc[row, own] for row, own in rows)))
    return found


def is_frontier(points: list[tuple[int, float]], plans: list[tuple[int, float]]) -> bool:
    """Whether points are exactly what no plan equals or beats in both."""
    best, expected = float("inf"), []
    for cost, sensitivity in sorted(plans):
        if sensitivity < best:
            expected.append((cost, sensitivity))
            best = sensitivity
    return points == expected


@st.composite
def tables(draw):
    """Sensitivities and costs of up to 4 layers with up to 4 options, neither monotone; ties are frequent."""
    layers, options = draw(st.integers(1, 4)), draw(st.integers(1, 4))

    def numbers(largest: int):
        row = st.lists(st.integers(0, largest), min_size=options, max_size=options)
        return numpy.array(draw(st.lists(row, min_size=layers, max_size=layers)))

    names, labels = [f"layer{index}" for index in range(layers)], [(8, bits) for bits in range(2, 2 + options)]
    omega = pandas.DataFrame(numbers(64) / 64, names, labels)  # exact in any order
    return omega, pandas.DataFrame(numbers(20), names, labels)


@pytest.mark.usefixtures("_every_form")
@settings(deadline=None, max_examples=60)
@given(tables(), st.integers(1, 100))
def test_no_other_plan_within_the_budget_is_less_sensitive(both, budget):
    omega, costs = both
    frontier, plans = cost_frontier(omega, costs), all_plans(omega, costs)
    points = list(frontier)
    assert is_frontier([(point.cost, point.sensitivity) for point in points], plans)
    for cost, sensitivity, options in points:
        assert list(options) == list(omega.index)
        assert sum(costs[own][name] for name, own in options.items()) == cost
        assert sum(omega[own][name] for name, own in options.items()) == sensitivity
    within = [sensitivity for cost, sensitivity in plans if cost <= budget]
    if within:
        assert frontier.within(budget).sensitivity == min(within)
        assert frontier.within(budget).cost <= budget
    else:
        with pytest.raises(zeroq.ZeroQError, match="below the cheapest plan"):
            frontier.within(budget)


@pytest.fixture
def weights():
    return table(numpy.array([[3.0, 1, 0.25], [2, 1.5, 0.125], [4, 0.5, 0]]), [10, 20, 30], [2, 4, 8])


@pytest.fixture
def inputs():
    return table(numpy.array([[1.0, 0.5, 0.25], [8, 1, 0.5], [2, 2, 0.75]]), [5, 6, 7], [2, 4, 8])


COUNTS = {"layer0": 700, "layer1": 30, "layer2": 210}


@pytest.mark.parametrize("share", [0.1, 0.27, 0.5, 0.8])
def test_bit_operations_against_all_plans(weights, inputs, share):
    pairs = pair_sensitivities(weights, inputs)
    assert pairs[4, 2].tolist() == [2, 9.5, 2.5]
    costs = bit_operation_costs(COUNTS, pairs)
    assert costs[4, 2].tolist() == [5600, 240, 1680]
    budget = share * 64 * sum(COUNTS.values())
    best = min(sensitivity for cost, sensitivity in all_plans(pairs, costs) if cost <= budget)
    plan = allocate_pairs(pairs, costs, budget)
    assert plan.sensitivity == best
    assert plan.cost == zeroq.bit_operations(COUNTS, plan.weights, plan.activations) <= budget
    alone = sum(weights.loc[name, bits] for name, bits in plan.weights.items())
    assert alone + sum(inputs.loc[name, bits] for name, bits in plan.activations.items()) == best


def test_bit_operations_with_one_width_of_activations(weights):
    pairs = pair_sensitivities(weights, 8)
    assert list(pairs.columns) == [(2, 8), (4, 8), (8, 8)]
    costs = bit_operation_costs(COUNTS, pairs)
    budget = 0.5 * 64 * sum(COUNTS.values())
    plan = allocate_pairs(pairs, costs, budget)
    assert plan.sensitivity == min(omega for cost, omega in all_plans(pairs, costs) if cost <= budget)
    assert set(plan.activations.values()) == {8}


def test_times_tell_which_layers_may_stay_float(weights):
    pairs = pair_sensitivities(weights, 8, with_float=True)
    assert pairs[32, 8].tolist() == [0, 0, 0]
    times = pandas.DataFrame({8: [0.5, 0.25, 1.0], 32: [1.5, 0.125, 1.0]}, index=weights.index)
    costs = time_costs(times, pairs)
    assert costs[2, 8].tolist() == costs[8, 8].tolist() == [5000, 2500, 10000]
    for budget in (1.7, 2.0, 3.0):
        plan = allocate_pairs(pairs, costs, budget / TIME_UNIT_MS)
        within = [omega for cost, omega in all_plans(pairs, costs) if cost * TIME_UNIT_MS <= budget]
        assert plan.sensitivity == min(within)
        assert set(plan.activations.values()) == {8}
    # The second layer is faster in float, and the first one's time is left only in the largest budget.
    assert plan.weights == {"layer0": 32, "layer1": 32, "layer2": 8}
    with pytest.raises(zeroq.ZeroQError, match="below the cheapest plan"):
        allocate_pairs(pairs, costs, 1.6 / TIME_UNIT_MS)


def test_layers_without_sensitivity_get_what_all_could_have():
    omega = pandas.DataFrame([[1.0, 0.5, 0.25], [0, 0, 0]], ["one", "two"], [(2, 8), (4, 8), (8, 8)])
    costs = bit_operation_costs({"one": 100, "two": 50}, omega)
    for share, expected in ((0.2, (2, 8)), (0.25, (2, 8)), (0.5, (4, 8)), (0.99, (4, 8)), (1, (8, 8))):
        assert fixed_without_sensitivity(omega, costs, share * 64 * 150) == {"two": expected}


@pytest.mark.parametrize("wrong", [0.5, -1, float("nan"), "many"])
def test_costs_are_whole_numbers_from_0_on(wrong):
    omega = pandas.DataFrame([[1.0, 0.5]], ["one"], [4, 8])
    with pytest.raises(zeroq.ZeroQError, match="whole numbers"):
        cost_frontier(omega, pandas.DataFrame([[1, wrong]], ["one"], [4, 8]))


def test_tables_that_do_not_fit(weights, inputs):
    pairs = pair_sensitivities(weights, 8)
    with pytest.raises(zeroq.ZeroQError, match="other layers or options"):
        cost_frontier(pairs, bit_operation_costs(COUNTS, pairs).iloc[:2])
    with pytest.raises(zeroq.ZeroQError, match="placement='layer_inputs'"):
        pair_sensitivities(weights, zeroq.SensitivityTable.of(inputs.rename({"layer0": "relu"}), inputs.parameters))
    for wrong in (0, -1, float("nan"), float("inf"), True, "much"):
        with pytest.raises(zeroq.ZeroQError, match="positive finite"):
            allocate_pairs(pairs, bit_operation_costs(COUNTS, pairs), wrong)
    for wrong in ({}, pandas.DataFrame({8: [1.0]}), pandas.DataFrame({8: [1.0], 32: [-1.0]})):
        with pytest.raises(zeroq.ZeroQError, match="table of milliseconds"):
            check_times(wrong)
