"""Plans measured together."""

import pytest
import torch
from scipy.stats import entropy

import zeroq


def test_refined_plan_has_the_lowest_joint_kl(hand_written, images):
    omega = zeroq.sensitivity(hand_written, images, range(2, 9))
    frontier = zeroq.pareto_frontier(omega)
    steps = []
    measured = zeroq.refine(
        *(hand_written, images, frontier), average_bits=4, count=5, on_plan=lambda *step: steps.append(step)
    )
    assert steps == [(done, len(measured)) for done in range(1, len(measured) + 1)]

    def joint(plan) -> float:
        quantized = zeroq.quantize(hand_written, plan, 32)
        with torch.no_grad():
            before, after = (network(images).double().softmax(1).numpy() for network in (hand_written, quantized))
        return entropy(before, after, axis=1).mean()

    assert len(measured) > 1
    assert all(0.97 * 4 <= candidate.plan.average_bits <= 4 for candidate in measured)
    assert [candidate.joint_kl for candidate in measured] == pytest.approx([joint(c.plan) for c in measured], rel=1e-4)
    assert measured[0].joint_kl == min(candidate.joint_kl for candidate in measured)
