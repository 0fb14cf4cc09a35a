"""Multiplications and values for one image, against counts by hand and against torch's own counter."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import zeroq
from zeroq.quantization.convert import quantizer_places
from zeroq.quantization.operations import (
    activation_elements,
    bit_operations,
    mean_activation_bits,
    multiply_accumulates,
)


def test_counted_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # 16 × 16 → 8 × 8
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2),  # 8 × 8 → 16 × 16
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )
    images = torch.zeros(3, 3, 16, 16)
    expected = {"0": 8 * 64 * 3 * 9, "2": 8 * 64 * 9, "3": 8 * 64 * 3 * 4, "6": 30}
    assert multiply_accumulates(network, images) == expected
    quantized = zeroq.quantize(network, 8, 8)
    zeroq.calibrate(quantized, images)
    elements = activation_elements(quantized, images)
    assert elements == {"0": 3 * 256, "2": 8 * 64, "3": 8 * 64, "6": 6}
    bits = {"0": 8, "2": 4, "3": 2, "6": 8}
    assert mean_activation_bits(elements, bits) == (768 * 8 + 512 * 4 + 512 * 2 + 6 * 8) / 1798
    assert mean_activation_bits(elements, 6) == 6
    assert bit_operations(expected, 4, bits) == 4 * (110592 // 8 * 8 + 4608 * 4 + 6144 * 2 + 30 * 8)
    assert bit_operations(expected, bits, 8) == 8 * sum(expected[name] * bits[name] for name in bits)


def test_every_call_of_a_layer_counts(hand_written, images):
    counts = multiply_accumulates(hand_written, images)
    # Each block calls its convolution twice, and the first block runs twice.
    one = 8 * 8 * 9 * 256
    assert counts == {"stem": 3 * 8 * 9 * 256, "blocks.0.shared": 4 * one, "blocks.1.shared": 2 * one, "head": 40}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hand_written(images[:1])
    assert 2 * sum(counts.values()) == counter.get_total_flops()


@pytest.mark.parametrize("placement", ["layer_inputs", "integer"])
def test_places_are_those_that_activation_bits_names(placement, images):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 144, 3))
    quantized = zeroq.quantize(network, 8, 8, placement)
    zeroq.calibrate(quantized, images)
    elements = activation_elements(quantized, images)
    assert elements.keys() == quantizer_places(quantized).keys()
    assert list(elements.values()) == [3 * 256, 4 * 196, 5 * 144]


def test_no_value_has_no_mean():
    with pytest.raises(zeroq.ZeroQError, match="no value passes"):
        mean_activation_bits({}, 8)
