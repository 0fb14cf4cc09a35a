"""The frontier against brute force, in both forms of the dynamic programme."""

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zeroq
from tests.zeroq.mixed_precision.tables import assert_plans_add_up, brute_force, table
from zeroq.mixed_precision import knapsack


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
