"""Ranges: min–max and percentile against numpy, and what happens to bad images."""

import numpy
import pytest
import torch
from torch import nn

import zeroq
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import quantized_weight
from zeroq.quantization.convert import activation_quantizers


@pytest.mark.parametrize(("percentile", "tails"), [(None, (0, 100)), (99.0, (1, 99)), (100, (0, 100))])
def test_range_is_numpy_s(percentile, tails, images):
    quantized = zeroq.quantize(nn.Sequential(nn.Conv2d(3, 4, 3)), 8, 8)
    zeroq.calibrate(quantized, images, percentile)
    low, high = numpy.percentile(images.double().numpy(), tails)
    (quantizer,) = activation_quantizers(quantized).values()
    assert quantizer.scale.item() == pytest.approx((high - low) / 255, rel=1e-5)
    assert quantizer.zero_point.item() == round(-low / (high - low) * 255)


def test_shared_layer_covers_all_its_uses(hand_written, images):
    seen = []
    hand_written.blocks[1].shared.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    quantized = zeroq.quantize(hand_written, 32, 8)
    zeroq.calibrate(quantized, images)
    seen.clear()
    hand_written(images)
    assert len(seen) == 2
    width = max(x.max() for x in seen) - min(min(x.min() for x in seen), 0)
    assert quantized.blocks[1].shared.input_quantizer.scale.item() == pytest.approx(width.item() / 255, rel=1e-5)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (torch.full((2, 3, 16, 16), float("nan")), "NaN"),
        (torch.zeros(2, 1, 16, 16), "does not accept images of shape"),
        (torch.zeros(3, 16, 16), "one float tensor"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "must be float"),
        (torch.zeros(0, 3, 16, 16), "one float tensor"),
    ],
)
def test_bad_images_leave_the_ranges_as_they_were(hand_written, images, broken, sentence):
    quantized = zeroq.quantize(hand_written)
    zeroq.calibrate(quantized, images)
    before = quantized(images)
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.calibrate(quantized, broken)
    assert torch.equal(quantized(images), before)


def test_activations_that_are_not_finite_are_named(hand_written, images):
    quantized = zeroq.quantize(hand_written)
    with pytest.raises(zeroq.ZeroQError, match=r"blocks.0.shared.input_quantizer sees NaN or infinite"):
        zeroq.calibrate(quantized, 3e38 * images.sign())
    with pytest.raises(zeroq.NotCalibratedError):
        quantized(images)


def test_a_float_network_cannot_be_calibrated(hand_written, images):
    with pytest.raises(zeroq.ZeroQError, match="not quantized"):
        zeroq.calibrate(hand_written, images)


def test_half_precision_networks_are_quantized_on_the_same_grid(hand_written, images):
    half = zeroq.quantize(hand_written.bfloat16(), 4, 8)
    zeroq.calibrate(half, images)
    assert half(images.bfloat16()).dtype == torch.bfloat16
    stem, weight = half.stem, hand_written.stem.weight
    expected = quantized_weight(weight.float(), 4).bfloat16()
    assert torch.equal(stem.weight, expected)
    assert stem.input_quantizer(images.bfloat16()).unique().numel() <= 256
    assert zeroq.sensitivity(hand_written, images).notna().all(axis=None)


@pytest.mark.parametrize("percentile", [0, 50, 74.9, 100.1, 101, -1])
def test_percentile_out_of_range(hand_written, images, percentile):
    with pytest.raises(zeroq.ZeroQError, match="percentile"):
        zeroq.calibrate(zeroq.quantize(hand_written), images, percentile)


def test_a_quantizer_waits_for_a_range_unless_it_is_to_take_each_batch_s():
    assert not ActivationQuantizer(8).calibrated
    assert ActivationQuantizer(8, dynamic=True).calibrated


def test_calibrating_again_replaces_the_range(images):
    quantized = zeroq.quantize(nn.Sequential(nn.Conv2d(3, 4, 3)))
    zeroq.calibrate(quantized, 100 * images)
    zeroq.calibrate(quantized, images)
    fresh = zeroq.quantize(nn.Sequential(nn.Conv2d(3, 4, 3)))
    zeroq.calibrate(fresh, images)
    assert quantized[0].input_quantizer.scale == fresh[0].input_quantizer.scale


def test_ranges_are_those_of_evaluation_whatever_mode_a_network_is_in(images):
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(4, 4, 3))
    quantized = zeroq.quantize(nn.Sequential(*layers), 8, 8)
    zeroq.calibrate(quantized.eval(), images)
    expected = {name: each.scale.item() for name, each in activation_quantizers(quantized).items()}
    statistics = quantized[1].running_mean.clone()
    zeroq.calibrate(quantized.train(), images)
    assert {name: each.scale.item() for name, each in activation_quantizers(quantized).items()} == expected
    assert quantized.training
    assert torch.equal(quantized[1].running_mean, statistics)
