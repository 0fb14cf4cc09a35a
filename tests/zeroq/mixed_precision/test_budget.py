"""Budgets of a whole call: within them, and nothing else within them is less sensitive."""

from itertools import product

import pandas
import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.quantization.convert import activation_quantizers
from zeroq.quantization.operations import activation_elements

SHAPE = (3, 16, 16)
QUICK = {"count": 4, "iterations": 3, "candidates": (2, 4, 8)}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU()]
    return estimate_statistics(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5)), SHAPE)


def widths_in(result: zeroq.QuantizationResult) -> dict[str, int]:
    """The activation widths that the network itself has, by layer."""
    found = activation_quantizers(result.model)
    return {name.removesuffix(".input_quantizer"): int(each.bits) for name, each in found.items()}


def test_a_plan_of_activations_beside_one_of_weights(network):
    plain = zeroq.zero_shot_quantize(network, SHAPE, 4, 8, **QUICK)
    result = zeroq.zero_shot_quantize(network, SHAPE, 4, 5, mixed_activations=True, **QUICK)
    assert result.plan == plain.plan  # the two budgets have nothing to do with each other
    assert "activation_plan" not in plain.report
    assert "mean_activation_bits" not in plain.report
    plan, omega = result.report["activation_plan"], result.activation_sensitivity
    assert widths_in(result) == plan
    elements = activation_elements(result.model, result.images)
    assert omega.parameters == elements

    def mean(bits) -> float:
        return sum(count * own for count, own in zip(elements.values(), bits, strict=True)) / sum(elements.values())

    plans = [bits for bits in product((2, 4, 8), repeat=3) if mean(bits) <= 5]
    best = min(sum(omega.loc[name, own] for name, own in zip(omega.index, bits, strict=True)) for bits in plans)
    assert sum(omega.loc[name, own] for name, own in plan.items()) == pytest.approx(best)
    assert result.report["mean_activation_bits"] == pytest.approx(mean(plan.values()))
    assert result.report["mean_activation_bits"] <= 5


def test_activations_are_planned_beside_one_width_of_weights_and_with_zeroq_plus(network):
    uniform = zeroq.zero_shot_quantize(network, SHAPE, 8, 4, mixed=False, mixed_activations=True, **QUICK)
    assert set(uniform.plan.values()) == {8}
    assert uniform.report["mean_activation_bits"] <= 4
    plus = zeroq.zero_shot_quantize(
        network, SHAPE, 4, 6, method="zeroq+", mixed_activations=True, count=4, iterations=3, placement="integer"
    )
    assert plus.report["mean_activation_bits"] <= 6
    assert list(plus.report["activation_plan"].values()) == [
        int(each.bits) for each in activation_quantizers(plus.model).values()
    ]


@pytest.mark.parametrize("share", [0.25, 0.4, 0.6, 1])
def test_bit_operations_of_weights(network, share):
    result = zeroq.zero_shot_quantize(network, SHAPE, budget=zeroq.BitOperations(share), **QUICK)
    omega, counts = result.sensitivity, {"0": 6 * 196 * 27, "3": 6 * 144 * 54, "8": 120}
    assert widths_in(result) == dict.fromkeys(counts, 8)

    def bops(bits) -> float:
        return sum(count * own for count, own in zip(counts.values(), bits, strict=True)) / (8 * sum(counts.values()))

    rows = [[omega.loc[name, bits] for bits in (2, 4, 8)] for name in counts]
    plans = [bits for bits in product((2, 4, 8), repeat=3) if bops(bits) <= share]
    cost = {bits: sum(row[(2, 4, 8).index(own)] for row, own in zip(rows, bits, strict=True)) for bits in plans}
    assert sum(omega.loc[name, own] for name, own in result.plan.items()) == pytest.approx(min(cost.values()))
    assert result.report["bops_share"] == pytest.approx(bops(result.plan.values()))
    assert result.report["bops_share"] <= share


def test_bit_operations_of_weights_and_activations(network):
    how = {"budget": zeroq.BitOperations(0.25), "mixed_activations": True, **QUICK}
    result = zeroq.zero_shot_quantize(network, SHAPE, **how)
    counts = {"0": 6 * 196 * 27, "3": 6 * 144 * 54, "8": 120}
    activations = result.report["activation_plan"]
    assert widths_in(result) == activations
    found = sum(counts[name] * result.plan[name] * activations[name] for name in counts)
    assert result.report["bops_share"] == found / (64 * sum(counts.values())) <= 0.25
    own, others = result.sensitivity, result.activation_sensitivity
    best = float("inf")
    for plan in product(product((2, 4, 8), repeat=2), repeat=3):
        if sum(count * w * a for count, (w, a) in zip(counts.values(), plan, strict=True)) <= 16 * sum(counts.values()):
            rows = zip(counts, plan, strict=True)
            best = min(best, sum(own.loc[name, w] + others.loc[name, a] for name, (w, a) in rows))
    chosen = sum(own.loc[name, result.plan[name]] + others.loc[name, activations[name]] for name in counts)
    assert chosen == pytest.approx(best)


def test_layers_that_there_is_time_for_stay_float(network):
    times = pandas.DataFrame({8: [0.5, 0.25, 0.125], 32: [1.0, 1.25, 0.0625]}, index=["0", "3", "8"])
    result = zeroq.zero_shot_quantize(network, SHAPE, budget=zeroq.Latency(1.4, times), **QUICK)
    # The last layer is quicker in float, and then there is time for one of the others, the first.
    assert result.plan == {"0": 32, "3": 8, "8": 32}
    assert widths_in(result) == {"0": 8, "3": 8, "8": 8}
    assert "activation_plan" not in result.report
    assert result.report["planned_ms"] == pytest.approx(1.3125, abs=1e-3)
    assert torch.equal(result.model.get_submodule("0").weight, network[0].weight)
    quick = zeroq.zero_shot_quantize(network, SHAPE, budget=zeroq.Latency(0.8125, times), **QUICK)
    assert quick.plan == {"0": 8, "3": 8, "8": 32}
    both = zeroq.zero_shot_quantize(
        network, SHAPE, 4, 5, budget=zeroq.Latency(1.4, times), mixed_activations=True, **QUICK
    )
    assert both.plan == result.plan
    assert both.report["mean_activation_bits"] <= 5


TIMES = pandas.DataFrame({8: [0.5, 0.25, 0.125], 32: [1.0, 1.25, 0.0625]}, index=["0", "3", "8"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget": 3}, "budget must be zeroq.BitOperations or zeroq.Latency"),
        ({"budget": zeroq.BitOperations(0.1)}, "0.25 to 1 of W8/A8's bit operations, and 0.1 is below"),
        ({"budget": zeroq.BitOperations(1.1)}, "is above"),
        ({"budget": zeroq.BitOperations(0.05), "mixed_activations": True}, "0.0625 to 1 .* is below"),
        ({"budget": zeroq.BitOperations(float("nan"))}, "positive finite"),
        ({"budget": zeroq.BitOperations(0.5), "mixed": False}, "a budget is for mixed precision"),
        ({"budget": zeroq.BitOperations(0.5), "refine": 3}, "refine measures plans of one size"),
        ({"budget": zeroq.BitOperations(0.5), "placement": "after_relu"}, "placement after_relu does not give"),
        (
            {"budget": zeroq.BitOperations(0.5), "placement": "integer", "mixed_activations": True},
            "placement integer does not give",
        ),
        ({"budget": zeroq.Latency(0.8, TIMES)}, "0.8 ms is below 0.8125 ms"),
        ({"budget": zeroq.Latency(2, TIMES.iloc[:2])}, "times are of other layers"),
        ({"budget": zeroq.Latency(2, TIMES[[8]])}, "table of milliseconds"),
        ({"budget": zeroq.Latency(-1, TIMES)}, "positive finite"),
        ({"budget": zeroq.BitOperations(0.5), "activation_bits": {"0": 8, "3": 8, "8": 8}}, "counts one width"),
        ({"budget": zeroq.Latency(2, TIMES), "activation_bits": 32}, "no layer runs in integers"),
        ({"mixed_activations": True, "activation_bits": 1}, "mean activation bits must be at least 2"),
        ({"mixed_activations": True, "activation_bits": 9.0}, "mean activation bits must be at most 8"),
        ({"mixed_activations": True, "activation_bits": {"0": 8}}, "names every activation's bits already"),
        ({"activation_bits": {"0": 8}}, "activation_bits must name every activation quantizer once"),
        ({"activation_bits": 5.5}, "bits must be 2…8"),
        ({"method": "naive", "mixed_activations": True}, "its activations have one width"),
    ],
)
def test_what_makes_no_sense_is_said_before_any_work(network, wrong, message):
    def run_stage(stage):
        raise AssertionError(f"{stage.name} was started")

    with pytest.raises(zeroq.ZeroQError, match=message):
        zeroq.zero_shot_quantize(network, SHAPE, run_stage=run_stage, **{**QUICK, **wrong})
