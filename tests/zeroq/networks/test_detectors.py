"""Torchvision's detectors: their layers as a network, and the whole detector around its quantized copy."""

import pytest
import torch
from torch import nn
from torchvision.models import detection

import zeroq
from zeroq import OnnxNetwork, ZeroQError, take_apart
from zeroq.layers import WEIGHTED_LAYERS, weighted_layers
from zeroq.quantization.layers import QuantizedWeight

SIDE = 128
ONE_STAGE = {
    "retinanet": (detection.retinanet_resnet50_fpn_v2, {"min_size": SIDE, "max_size": SIDE, "score_thresh": 0}),
    "fcos": (detection.fcos_resnet50_fpn, {"min_size": SIDE, "max_size": SIDE, "score_thresh": 0}),
    "ssdlite": (detection.ssdlite320_mobilenet_v3_large, {"score_thresh": 0}),
}
LARGE = ("retinanet", "fcos")
TWO_STAGES = {
    "faster r-cnn": (
        detection.fasterrcnn_mobilenet_v3_large_320_fpn,
        {"min_size": SIDE, "max_size": SIDE, "box_score_thresh": 0},
    )
}
DETECTORS = ONE_STAGE | TWO_STAGES


def made(name: str) -> nn.Module:
    """A detector with random weights that finds something: scores are all near their prior otherwise."""
    torch.manual_seed(0)
    maker, arguments = DETECTORS[name]
    return maker(weights=None, weights_backbone=None, num_classes=5, **arguments).eval()


def photographs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, 110, SIDE, generator=generator), torch.rand(3, SIDE, 100, generator=generator)]


def assert_same(found, expected):
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert len(other["boxes"])
        assert all(torch.equal(one[key], other[key]) for key in other)


@pytest.mark.parametrize("name", DETECTORS)
def test_put_together_again_a_detector_is_what_it_was(name):
    detector = made(name)
    with torch.no_grad():
        expected = detector(photographs())
        parts = take_apart(detector)
        assert_same(parts.detector(parts.module)(photographs()), expected)
        assert_same(detector(photographs()), expected)
    assert parts.task == "detection"
    assert parts.input.shape[1:] == ((320, 320) if name == "ssdlite" else (SIDE, SIDE))


@pytest.mark.parametrize("name", DETECTORS)
def test_everything_with_weights_is_quantized(name):
    detector = made(name)
    parts = take_apart(detector)
    images = torch.randn(2, *parts.input.shape, generator=torch.Generator().manual_seed(0))
    quantized = zeroq.quantize(parts.module, 8, 8)
    zeroq.calibrate(quantized, images)
    again = parts.detector(quantized)
    wanted = [each for each, module in detector.named_modules() if isinstance(module, WEIGHTED_LAYERS)]
    assert sorted(weighted_layers(parts.module)) == sorted(wanted)
    used = [module for module in again.modules() if isinstance(module, WEIGHTED_LAYERS)]
    assert len(used) == len(wanted)
    assert all(isinstance(module, QuantizedWeight) and module.weight_bits == 8 for module in used)
    with torch.no_grad():
        assert all(len(found["boxes"]) for found in again(photographs()))


@pytest.mark.parametrize("name", ["ssdlite", *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_the_file_finds_what_the_simulation_finds(name, tmp_path):
    parts = take_apart(made(name))
    images = torch.randn(2, *parts.input.shape, generator=torch.Generator().manual_seed(0))
    quantized = zeroq.quantize(parts.module, 8, 8, "integer", input_shape=parts.input.shape)
    zeroq.calibrate(quantized, images)
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    assert set(report.float_layers.values()) == {"it gives the network's output"}
    with torch.no_grad():
        found = parts.detector(OnnxNetwork(report.path))(photographs()[:1])[0]
        expected = parts.detector(zeroq.integer_arithmetic(quantized, parts.input.shape))(photographs()[:1])[0]
    # A rounding that falls to the other side may move one of them.
    torch.testing.assert_close(found["scores"], expected["scores"], rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssdlite", "faster r-cnn"])
def test_bits_are_chosen_for_each_layer(name):
    """Their classes share a softmax, and the smallest features of untrained SSDLite are near 1e-22."""
    parts = take_apart(made(name))
    images = torch.randn(2, *parts.input.shape, generator=torch.Generator().manual_seed(0))
    result = zeroq.zero_shot_quantize(parts.module, parts.input.shape, 4, 8, sensitivity="estimated", images=images)
    assert result.report["quantized_weight_layers"] == result.report["weight_layers"] == len(result.plan)
    with torch.no_grad():
        scores = parts.module(images)["out"]
        assert scores.shape[:2] == (2, 5)
        changed = zeroq.quantize(
            parts.module, {**dict.fromkeys(result.plan, 32), (last := list(result.plan)[-1]): 2}, 32
        )
        p, q = (network(images)["out"].double().log_softmax(1) for network in (parts.module, changed))
    omega = zeroq.sensitivity(parts.module, images, (2,))
    assert omega.loc[last, 2] == pytest.approx((p.exp() * (p - q)).sum(1).mean().item(), rel=1e-4, abs=1e-12)


def test_others_are_refused():
    with pytest.raises(ZeroQError, match=r"only torchvision's RetinaNet, FCOS, SSD and Faster R-CNN .*, not MaskRCNN"):
        take_apart(detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None))
    with pytest.raises(ZeroQError, match=r"model\.transform normalises and resizes images"):
        zeroq.quantize(made("fcos"), 8, 8)
