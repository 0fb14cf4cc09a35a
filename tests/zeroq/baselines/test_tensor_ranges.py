"""Ranges that an activation's own values choose."""

import pytest
import torch
from torch import nn

import zeroq
from zeroq.baselines.tensor_ranges import choose_ranges
from zeroq.quantization.affine import affine_parameters
from zeroq.quantization.convert import activation_quantizers, convert


def halves(values: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    return values.min() / 2, values.max() / bits


def test_every_activation_has_the_range_that_its_float_values_choose():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 5)).eval()
    images = torch.randn(6, 3, 6, 6)
    quantized = convert(model, 32, 4)
    zeroq.calibrate(quantized, images)
    choose_ranges(quantized, images, halves)
    seen = {"0": images, "2": model[:2](images), "4": model[:4](images)}
    for name, values in seen.items():
        expected = affine_parameters(*halves(values, 4), 4)
        quantizer = quantized.get_submodule(name).input_quantizer
        assert quantizer.scale == pytest.approx(expected.scale.item())
        assert quantizer.zero_point == expected.zero_point
    assert not torch.equal(quantized(images), model(images))  # they quantize again


def test_a_quantizer_of_several_tensors_holds_all_their_ranges(hand_written, images):
    quantized = convert(hand_written, 32, 8)
    zeroq.calibrate(quantized, images)
    shared = quantized.blocks[0].shared.input_quantizer
    seen = []

    def ends(values: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append((values.shape, values.min() / 2, values.max() / 2))
        return values.min() / 2, values.max() / 2

    choose_ranges(quantized, images, ends)
    of_blocks = [pair[1:] for pair in seen if pair[0][1:] == (8, 16, 16)]
    assert len(of_blocks) > len(activation_quantizers(quantized)) - 2
    first = [*of_blocks[:2], *of_blocks[4:]]  # the first block is called twice, two convolutions each
    expected = affine_parameters(min(low for low, _ in first), max(high for _, high in first), 8)
    assert shared.scale == pytest.approx(expected.scale.item())


def test_a_failing_pass_leaves_the_ranges(hand_written, images):
    quantized = convert(hand_written, 32, 8)
    zeroq.calibrate(quantized, images)
    before = {name: each.scale.clone() for name, each in activation_quantizers(quantized).items()}

    def fail(values: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        raise ValueError("out of luck")

    with pytest.raises((ValueError, zeroq.ZeroQError), match="out of luck"):
        choose_ranges(quantized, images, fail)
    for name, each in activation_quantizers(quantized).items():
        assert torch.equal(each.scale, before[name])
        assert not each._forward_pre_hooks
    assert quantized(images).isfinite().all()
