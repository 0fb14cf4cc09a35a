"""Model sizes of the paper's networks, built without weights."""

import pytest
from pytorchcv.model_provider import get_model

import zeroq
from zeroq.quantization.size import average_bits_for


@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("resnet50", 97.49),
        ("mobilenetv2_w1", 13.37),
        ("sqnxt23_w2", 9.86),
        ("inceptionv3", 90.92),
        ("resnet18", 44.59),
        ("resnet152", 229.62),
    ],
)
def test_sizes_are_the_paper_s(name, mib):
    network = get_model(name)
    assert zeroq.size_mib(network) == pytest.approx(mib, abs=0.005)
    assert zeroq.size_mib(network, 8) == pytest.approx(mib / 4, abs=0.005)


def test_everything_else_counts_at_the_mean_bits(hand_written):
    plan = {"stem": 8, "blocks.0.shared": 4, "blocks.1.shared": 4, "head": 2}
    weights = {"stem": 216, "blocks.0.shared": 576, "blocks.1.shared": 576, "head": 40}
    mean = sum(weights[name] * plan[name] for name in plan) / sum(weights.values())
    total = sum(parameter.numel() for parameter in hand_written.parameters())
    assert zeroq.size_mib(hand_written, plan) == pytest.approx(total * mean / 8 / 2**20)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_mean_bits_of_a_size_are_those_it_was_made_of(bits, hand_written):
    assert average_bits_for(hand_written, zeroq.size_mib(hand_written, bits)) == pytest.approx(bits)
