"""The search in groups against all plans, by hand and on networks."""

from collections.abc import Callable, Mapping
from itertools import pairwise, product
from math import inf

import numpy
import pytest
import torch
from scipy.stats import entropy

import zeroq
from tests.zeroq.mixed_precision.networks import Awkward, Detector, network
from tests.zeroq.mixed_precision.tables import brute_force, table
from zeroq.mixed_precision.choices import cost_frontier
from zeroq.mixed_precision.frontier import size_costs
from zeroq.mixed_precision.grouped import in_groups, search
from zeroq.mixed_precision.sensitivity import SensitivityTable
from zeroq.rounding.candidates import compensated_weights

BITS = (2, 4, 8)
Measure = Callable[[Mapping[str, int]], float]


def random_table(seed: int, layers: int = 6) -> SensitivityTable:
    random = numpy.random.default_rng(seed)
    values = random.random((layers, 1)) * numpy.array([1, 0.2, 0.03]) * random.uniform(0.5, 1.5, (layers, len(BITS)))
    return table(values, random.integers(3, 60, layers), BITS)


def sum_of(omega: SensitivityTable) -> Measure:
    return lambda widths: sum(omega.loc[name, bits] for name, bits in widths.items())


def with_interactions(omega: SensitivityTable) -> Measure:
    """Any two neighbours of one width make up for each other, or for nothing."""

    def measure(widths: Mapping[str, int]) -> float:
        values = list(widths.values())
        alike = sum(one == other for one, other in pairwise(values))
        return sum_of(omega)(widths) * 0.8**alike

    return measure


def room_of(omega: SensitivityTable, average: float) -> int:
    return int((average - BITS[0]) * sum(omega.parameters.values()))


def searched(omega: SensitivityTable, room: int, measure: Measure, layers: int, **how) -> list[tuple[int, float, dict]]:
    costs = size_costs(omega)
    groups = [cost_frontier(own, costs.loc[own.index]) for own in in_groups(omega, layers)]
    return [tuple(each) for each in search(groups, room, measure, **how)]


def undominated(points: list[tuple[int, float, dict]]) -> list[tuple[int, float, dict]]:
    found, best = [], inf
    for point in sorted(points, key=lambda point: point[:2]):
        if point[1] < best:
            found.append(point)
            best = point[1]
    return found


def by_hand(
    omega: SensitivityTable, room: int, measure: Measure, layers: int, *, bins: int, contenders: int
) -> list[tuple[int, float, dict]]:
    """The same by taking every choice of every group, in plain Python."""
    names, kept = list(omega.index), [(0, 0.0, {})]
    count = -(-len(names) // layers)
    ends = [len(names) // count * index + min(index, len(names) % count) for index in range(count + 1)]
    for start, end in pairwise(ends):
        group = names[start:end]
        points = []
        for (excess, divergence, before), widths in product(kept, product(BITS, repeat=len(group))):
            own = dict(zip(group, widths, strict=True))
            size = excess + sum(omega.parameters[name] * (bits - BITS[0]) for name, bits in own.items())
            if size <= room:
                points.append((size, divergence + sum_of(omega)(own), before | own))
        measured = []
        for bin_ in range(bins + 1):
            low, high = (room * (bin_ - 1) / bins, room * bin_ / bins)
            inside = [point for point in undominated(points) if low < point[0] <= high]
            best = sorted(inside, key=lambda point: point[1])[:contenders]
            measured += [(size, measure(widths), widths) for size, _, widths in best]
        kept = undominated(measured)
    return kept


@pytest.mark.parametrize("layers", [1, 2, 4, 6])
def test_nothing_is_lost_where_sensitivities_add_up_and_bins_are_fine(layers):
    for seed in range(3):
        omega = random_table(seed)
        room = room_of(omega, 4.5)
        found = searched(omega, room, sum_of(omega), layers, bins=room, contenders=1)
        smallest = BITS[0] * sum(omega.parameters.values())
        expected = [(size - smallest, cost) for size, cost in brute_force(omega) if size - smallest <= room]
        assert [size for size, *_ in found] == [size for size, _ in expected]
        assert [cost for _, cost, _ in found] == pytest.approx([cost for _, cost in expected])


@pytest.mark.parametrize("contenders", [1, 3])
@pytest.mark.parametrize(("layers", "bins"), [(1, 4), (2, 5), (4, 7), (6, 3), (6, 40)])
def test_is_what_taking_every_choice_by_hand_gives(layers, bins, contenders):
    for seed in range(3):
        omega = random_table(seed)
        room, measure = room_of(omega, 4), with_interactions(omega)
        found = searched(omega, room, measure, layers, bins=bins, contenders=contenders)
        expected = by_hand(omega, room, measure, layers, bins=bins, contenders=contenders)
        assert found == [(size, pytest.approx(cost), widths) for size, cost, widths in expected]


def test_a_plan_that_only_adds_up_well_is_left_behind():
    omega = table(numpy.array([[1.0, 0.0], [1.1, 0.0], [0.3, 0.2]]), [10, 11, 5], [2, 8])

    def measure(widths: Mapping[str, int]) -> float:
        return sum_of(omega)(widths) + 2 * (widths["layer0"] == 2 and widths.get("layer1") == 8)

    room = 6 * 16  # either of the first two layers, with the third, may have 8 bits
    exact = zeroq.allocate(omega, average_bits=2 + room / 26)
    *_, (_, divergence, widths) = searched(omega, room, measure, 1, bins=room, contenders=1)
    assert exact == {"layer0": 2, "layer1": 8, "layer2": 8}
    assert measure(exact) == pytest.approx(3.2)
    assert widths == {"layer0": 8, "layer1": 2, "layer2": 8}
    assert divergence == pytest.approx(1.3)


def test_a_budget_without_room_takes_the_smallest():
    omega = random_table(0)
    found = searched(omega, 0, sum_of(omega), 2, bins=4, contenders=2)
    assert [(size, widths) for size, _, widths in found] == [(0, dict.fromkeys(omega.index, 2))]


def joint(model: torch.nn.Module, images: torch.Tensor, plan: Mapping[str, int]) -> float:
    with torch.no_grad():
        before, after = (each(images).double().softmax(1).numpy() for each in (model, zeroq.quantize(model, plan, 32)))
    return entropy(before, after, axis=1).mean()


def test_divergences_are_scipy_s_of_quantized_copies(hand_written, images):
    omega, steps = zeroq.sensitivity(hand_written, images), []
    found = zeroq.grouped_frontier(
        *(hand_written, images, omega), average_bits=4, layers=2, on_group=lambda *step: steps.append(step)
    )
    assert steps == [(1, 2), (2, 2)]
    assert len(found) > 1
    assert [each.joint_kl for each in found] == sorted(each.joint_kl for each in found)
    expected = [joint(hand_written, images, each.plan) for each in found]
    assert [each.joint_kl for each in found] == pytest.approx(expected, rel=1e-4)
    for plan, _ in found:
        assert list(plan) == list(omega.index)
        assert plan.size_bits == sum(omega.parameters[name] * bits for name, bits in plan.items())
        assert plan.sensitivity == pytest.approx(sum(omega.loc[name, bits] for name, bits in plan.items()))
        assert plan.average_bits <= 4


def test_one_group_measures_the_whole_frontier(hand_written, images):
    omega = zeroq.sensitivity(hand_written, images)
    best, *_ = zeroq.grouped_frontier(hand_written, images, omega, average_bits=4, layers=99, bins=10**6)
    within = [point.plan for point in zeroq.pareto_frontier(omega) if point.plan.average_bits <= 4]
    assert len(within) > 3
    assert best.plan == min(within, key=lambda plan: joint(hand_written, images, plan))


def test_layers_that_share_a_weight_may_have_two_widths():
    model, images = network(Awkward), torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    omega = zeroq.sensitivity(model, images)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = zeroq.grouped_frontier(model, images, omega, average_bits=4, layers=3, contenders=8)
    assert any(each.plan["side"] != each.plan["tied"] for each in found)
    assert [each.joint_kl for each in found] == pytest.approx([joint(model, images, e.plan) for e in found], rel=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.tied.weight is model.side.weight


def test_compensated_weights_are_measured_on_other_images(hand_written, images):
    how = {"rounding": "compensated", "average_bits": 4}
    omega = zeroq.sensitivity(hand_written, images, rounding="compensated")
    best, *_ = zeroq.grouped_frontier(hand_written, images, omega, **how)
    weights = compensated_weights(hand_written, images[::2], BITS)
    changed = zeroq.quantize(hand_written, 8, 32)
    for name, bits in best.plan.items():
        changed.get_submodule(name).weight.data = weights[name][BITS.index(bits)]
    with torch.no_grad():
        one, other = (each(images[1::2]).double().softmax(1).numpy() for each in (hand_written, changed))
    assert best.joint_kl == pytest.approx(entropy(one, other, axis=1).mean(), rel=1e-4)


def test_layers_without_sensitivity_get_the_mean(images):
    model = network(Detector)
    omega = zeroq.sensitivity(model, images)
    assert {plan["boxes"] for plan, _ in zeroq.grouped_frontier(model, images, omega, average_bits=5, layers=2)} == {4}


def test_wrong_arguments(hand_written, images):
    omega = zeroq.sensitivity(hand_written, images)
    for arguments, sentence in [
        ({"average_bits": 1.9}, "below the smallest candidate: the smallest plan has 2 bits"),
        ({}, "give one budget"),
        ({"average_bits": 4, "layers": 0}, "layers must be at least 1, not 0"),
        ({"average_bits": 4, "bins": 0}, "bins must be at least 1, not 0"),
        ({"average_bits": 4, "contenders": -1}, "contenders must be at least 1, not -1"),
        ({"average_bits": 4, "direction": "sideways"}, "direction must be one of"),
    ]:
        with pytest.raises(zeroq.ZeroQError, match=sentence):
            zeroq.grouped_frontier(hand_written, images, omega, **arguments)
    with pytest.raises(zeroq.ZeroQError, match="of other layers than the network's"):
        zeroq.grouped_frontier(hand_written, images, random_table(0), average_bits=4)


def test_a_whole_call_reports_both_plans(hand_written, images):
    found, exact = (
        zeroq.quantize_with_images(hand_written, images, zeroq.Settings(4, 8, frontier=frontier))
        for frontier in ("grouped", "exact")
    )
    reported = found.report["grouped"]
    assert found.plan.average_bits <= 4
    assert reported["sensitivity"] == pytest.approx(found.plan.sensitivity)
    assert reported["exact_sensitivity"] == pytest.approx(exact.plan.sensitivity)
    assert reported["divergence"] == pytest.approx(joint(hand_written, images, found.plan), rel=1e-4)
    assert reported["exact_divergence"] == pytest.approx(joint(hand_written, images, exact.plan), rel=1e-4)
    assert "grouped" not in exact.report


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"frontier": "rough"}, "frontier must be one of exact, grouped, not 'rough'"),
        ({"frontier": "grouped", "mixed": False}, "chooses a mixed-precision plan"),
        ({"frontier": "grouped", "refine": 3}, "refine measures plans of the exact frontier"),
        ({"frontier": "grouped", "budget": zeroq.BitOperations(0.5)}, "is of sizes"),
    ],
)
def test_settings_that_it_does_not_go_with(settings, sentence):
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.Settings(**settings).check_values()
