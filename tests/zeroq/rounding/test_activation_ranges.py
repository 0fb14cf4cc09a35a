"""Activation ranges by the error of the layer's output."""

import copy

import pytest
import torch
from torch import nn

import zeroq
from zeroq.quantization.convert import activation_quantizers, convert
from zeroq.rounding.activation_ranges import SHARES, narrow_ranges


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


@pytest.fixture
def outliers() -> torch.Tensor:
    images = torch.randn(16, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    images[0, 0, 4, 4] = 12  # one pixel
    return images


def output_error(network: nn.Module, quantized: nn.Module, images: torch.Tensor) -> float:
    layer = network[0]
    with torch.no_grad():
        return (layer(quantized[0].input_quantizer(images)) - layer(images)).square().mean().item()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_layer_errs_least_of_all_shares(network, outliers, bits):
    quantized = convert(network, 32, bits)
    zeroq.calibrate(quantized, outliers)
    whole = copy.deepcopy(quantized)
    narrow_ranges(quantized, network, outliers)
    found = output_error(network, quantized, outliers)
    errors = []
    for share in SHARES:
        other = copy.deepcopy(whole)
        quantizer, before = other[0].input_quantizer, whole[0].input_quantizer
        low = -before.scale * before.zero_point
        high = before.scale * (2**bits - 1 - before.zero_point)
        quantizer.start_recording(None)
        quantizer(torch.stack([low, high]) * share)
        quantizer.freeze()
        errors.append(output_error(network, other, outliers))
    assert found == pytest.approx(min(errors), rel=1e-5)
    assert found <= output_error(network, whole, outliers)
    if bits == 4:
        assert quantized[0].input_quantizer.scale < whole[0].input_quantizer.scale


def test_zero_stays_exact_and_a_state_dict_reloads(network, outliers):
    quantized = convert(network, 8, 3)
    zeroq.calibrate(quantized, outliers)
    narrow_ranges(quantized, network, outliers)
    for quantizer in activation_quantizers(quantized).values():
        assert quantizer(torch.zeros(3)).eq(0).all()
    again = convert(network, 8, 3)
    again.load_state_dict(quantized.state_dict())
    assert torch.equal(again(outliers), quantized(outliers))


def test_the_float_network_is_left_alone_and_others_keep_their_ranges(network, outliers):
    quantized = zeroq.quantize(network, 8, 4, "integer")
    zeroq.calibrate(quantized, outliers)
    scales = [quantizer.scale.clone() for quantizer in activation_quantizers(quantized).values()]
    narrow_ranges(quantized, network, outliers)
    assert scales == [quantizer.scale for quantizer in activation_quantizers(quantized).values()]
    assert not any(module._forward_hooks for module in network.modules())


def test_hooks_of_the_caller_s_are_no_error(network, outliers):
    found = []
    for hooked in (False, True):
        quantized = convert(network, 8, 4)
        zeroq.calibrate(quantized, outliers)
        handle = network[0].register_forward_hook(lambda layer, inputs, output: output * 0.5) if hooked else None
        narrow_ranges(quantized, network, outliers)
        found.append(quantized[0].input_quantizer.scale)
        if handle:
            handle.remove()
    assert found[0] == found[1]


def test_images_in_some_order(network):
    images = torch.randn(32, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    images = torch.cat([images[:16] / 10, images[16:]])
    quantized = convert(network, 8, 4)
    zeroq.calibrate(quantized, images)
    before = output_error(network, quantized, images)
    narrow_ranges(quantized, network, images)
    assert output_error(network, quantized, images) <= before


def test_it_is_a_setting(network, outliers):
    with pytest.raises(zeroq.ZeroQError, match="clipping must be one of none, output_error"):
        zeroq.Settings(8, 4, mixed=False, clipping="best").check_values()
    with pytest.raises(zeroq.ZeroQError, match="so does percentile"):
        zeroq.Settings(8, 4, mixed=False, clipping="output_error", percentile=99.9).check_values()
    with pytest.raises(zeroq.ZeroQError, match="clipping is of ranges from images"):
        zeroq.zero_shot_quantize(network, (3, 9, 9), 8, 4, method="naive", clipping="output_error")
    narrow, whole = (
        zeroq.quantize_with_images(network, outliers, zeroq.Settings(8, 4, mixed=False, clipping=clipping)).model
        for clipping in ("output_error", "none")
    )
    assert narrow[0].input_quantizer.scale < whole[0].input_quantizer.scale
