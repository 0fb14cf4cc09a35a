"""Sensitivities against scipy and copies of the network that are quantized from outside."""

import copy

import numpy
import pytest
import torch
from scipy.stats import entropy
from torch import nn

import zeroq
from zeroq.mixed_precision.divergence import divergence
from zeroq.quantization.affine import quantized_weight


@pytest.mark.parametrize("direction", ["forward", "symmetric"])
def test_is_scipy_s_kl_of_a_quantized_copy(hand_written, images, direction):
    omega = zeroq.sensitivity(hand_written, images, (2, 5), direction=direction)

    def probabilities(network: nn.Module) -> numpy.ndarray:
        with torch.no_grad():
            return network(images).double().softmax(1).numpy()

    before = probabilities(hand_written)
    for name in ("stem", "blocks.0.shared", "blocks.1.shared", "head"):
        for bits in (2, 5):
            changed = copy.deepcopy(hand_written)
            layer = changed.get_submodule(name)
            layer.weight.data = quantized_weight(layer.weight, bits)
            after = probabilities(changed)
            expected = entropy(before, after, axis=1).mean()
            if direction == "symmetric":
                expected = (expected + entropy(after, before, axis=1).mean()) / 2
            assert omega.loc[name, bits] == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("shape", [(3, 2), (3, 1, 1)])
@pytest.mark.parametrize("gap", [50.0, 1000.0])
def test_divergence_of_certain_classes_is_finite(shape, gap):
    certain, opposite = torch.zeros(shape), torch.zeros(shape)
    certain[..., 0], opposite[..., 0] = gap, -gap
    # The certain class's probability is 1 on one side; on the other its logarithm is minus the distance of the logits.
    expected = gap
    assert divergence(certain, opposite, "forward") == pytest.approx(expected, rel=1e-6)
    assert divergence(certain, opposite, "symmetric") == pytest.approx(expected, rel=1e-6)
    assert divergence(certain, certain, "forward") == 0


def test_is_a_table_of_layers_and_bits(hand_written, images):
    omega = zeroq.sensitivity(hand_written, images)
    assert list(omega.index) == ["stem", "blocks.0.shared", "blocks.1.shared", "head"]
    assert list(omega.columns) == [2, 4, 8]
    assert omega.parameters == {"stem": 216, "blocks.0.shared": 576, "blocks.1.shared": 576, "head": 40}
    assert (omega[2] > omega[8]).all()
    assert zeroq.SensitivityTable.from_plain(omega.to_plain()).equals(omega)


def test_layers_can_be_selected_and_scaled(hand_written, images):
    omega = zeroq.sensitivity(hand_written, images)
    assert zeroq.allocate(omega * 2, average_bits=4) == zeroq.allocate(omega, average_bits=4)
    assert list(zeroq.allocate(omega.loc[["head"]], average_bits=4)) == ["head"]


def test_refined_plan_has_the_lowest_joint_kl(hand_written, images):
    omega = zeroq.sensitivity(hand_written, images, range(2, 9))
    frontier = zeroq.pareto_frontier(omega)
    measured = zeroq.refine(hand_written, images, frontier, average_bits=4, count=5)

    def joint(plan) -> float:
        quantized = zeroq.quantize(hand_written, plan, 32)
        with torch.no_grad():
            before, after = (network(images).double().softmax(1).numpy() for network in (hand_written, quantized))
        return entropy(before, after, axis=1).mean()

    assert len(measured) > 1
    assert all(candidate.plan.average_bits <= 4 for candidate in measured)
    assert [candidate.joint_kl for candidate in measured] == pytest.approx([joint(c.plan) for c in measured], rel=1e-4)
    assert measured[0].joint_kl == min(candidate.joint_kl for candidate in measured)


@pytest.mark.parametrize("bits", [(1,), (2, 9), (), (2.5,), (32,)])
def test_candidates_out_of_range(hand_written, images, bits):
    with pytest.raises(zeroq.ZeroQError, match="2…8"):
        zeroq.sensitivity(hand_written, images, bits)


def test_other_wrong_arguments(hand_written, images):
    with pytest.raises(zeroq.ZeroQError, match="direction"):
        zeroq.sensitivity(hand_written, images, direction="backward")
    with pytest.raises(zeroq.ZeroQError, match="classifier"):
        zeroq.sensitivity(nn.Sequential(nn.Conv2d(3, 4, 3)), images)
