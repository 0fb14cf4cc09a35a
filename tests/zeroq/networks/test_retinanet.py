"""RetinaNet: raw heads, every layer quantized, and the whole detector around the quantized network."""

import copy
from pathlib import Path

import numpy
import pytest
import torch
from torch import fx, nn
from torchvision.models import resnet50
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.ops import FrozenBatchNorm2d

import zeroq
from zeroq.distillation.batch_norm import batch_norm_loss
from zeroq.modules import batch_norms
from zeroq.networks import download, retinanet, zoo
from zeroq.networks.detectors import OneStage
from zeroq.quantization.convert import activation_quantizers
from zeroq.quantization.layers import QuantizedWeight

CONVOLUTIONS = 71  # 53 of ResNet50, 8 of the pyramid, 10 of the heads


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """torchvision's detector with random weights."""
    torch.manual_seed(0)
    return retinanet_resnet50_fpn(weights=None, weights_backbone=None, min_size=128, max_size=128).eval()


@pytest.fixture(scope="module")
def bundled() -> nn.Module:
    torch.manual_seed(0)
    return zoo.build("retinanet").eval()


def test_raw_outputs_are_those_of_the_whole_detector(published):
    images = [torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))]
    raw = OneStage(published)
    recorded = {}
    published.head.register_forward_hook(lambda module, inputs, output: recorded.update(output))
    with torch.no_grad():
        published(images)
        recorded_before = dict(recorded)
        batch, _ = published.transform(images)
        found = raw(batch.tensors)
    for name in ("cls_logits", "bbox_regression"):
        assert torch.equal(found[name], recorded_before[name])


def test_whole_detector_around_the_raw_network_is_torchvision_s(published):
    network = copy.deepcopy(published)
    # Untrained scores are all near 0.01, below the threshold of a detection.
    nn.init.normal_(network.head.classification_head.cls_logits.bias, -3)
    images = [torch.rand(3, 100, 128, generator=torch.Generator().manual_seed(0))]
    again = retinanet.detector_around(OneStage(network), min_size=128, max_size=128)
    with torch.no_grad():
        (expected,), (found,) = network(images), again(images)
    assert len(expected["boxes"]) > 0
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_raw_network_can_be_traced(bundled):
    images = torch.randn(2, 1, 128, 128)
    traced = fx.symbolic_trace(bundled)
    with torch.no_grad():
        expected, found = bundled(images), traced(images)
    assert all(torch.equal(found[name], expected[name]) for name in ("cls_logits", "bbox_regression"))


@pytest.mark.parametrize("build", [lambda published: OneStage(published), lambda _: zoo.build("retinanet")])
def test_all_convolutions_are_quantized(published, build):
    quantized = zeroq.quantize(build(published), 4, 8)
    layers = [module for module in quantized.modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) == CONVOLUTIONS
    assert all(isinstance(layer, QuantizedWeight) and layer.weight_bits == 4 for layer in layers)
    assert len(activation_quantizers(quantized)) == CONVOLUTIONS


def test_every_tensor_is_reached_and_the_caller_s_network_untouched(bundled):
    before = copy.deepcopy(bundled.state_dict())
    images = torch.randn(2, 1, 128, 128)
    quantized = zeroq.quantize(bundled, 8, 8)
    zeroq.calibrate(quantized, images)
    assert all(quantizer.calibrated for quantizer in activation_quantizers(quantized).values())
    detections = retinanet.bundled_detector(quantized)([torch.rand(1, 128, 128)])
    assert detections[0].keys() == {"boxes", "scores", "labels"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in bundled.state_dict().items())


def test_sensitivity_is_the_bernoulli_kl_of_the_class_scores(bundled):
    images = torch.randn(3, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    name = "head.classification_head.conv.1.0"
    for direction in ("forward", "symmetric"):
        omega = zeroq.sensitivity(bundled, images, (2,), direction=direction)
        assert len(omega) == CONVOLUTIONS
        changed = zeroq.quantize(bundled, {layer: 2 if layer == name else 32 for layer in omega.index}, 32)
        with torch.no_grad():
            p, q = (network(images)["cls_logits"].double().sigmoid() for network in (bundled, changed))

        def kl(p, q):
            return (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(2).mean()

        expected = kl(p, q) if direction == "forward" else (kl(p, q) + kl(q, p)) / 2
        assert omega.loc[name, 2] == pytest.approx(expected.item(), rel=1e-5)
    # Boxes have no class scores.
    assert (omega.loc[omega.index.str.contains("regression_head"), 2] == 0).all()


@pytest.mark.parametrize("eps", [1e-5, 0.0, 1e-3])
@pytest.mark.parametrize("frozen", [False, True])
def test_distillation_sees_the_backbone_s_statistics(frozen, eps):
    torch.manual_seed(0)
    network = retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    if frozen:
        network = retinanet._assemble(resnet50(norm_layer=FrozenBatchNorm2d), 256, retinanet.COCO_CLASSES)
    raw = OneStage(network).eval()
    layers = batch_norms(raw)
    assert len(layers) == 53
    convolved = {}
    for name, layer in layers.items():
        layer.eps = eps
        layer.running_mean.normal_()
        layer.running_var.uniform_(1, 9)
        convolution = raw.get_submodule(name.replace("downsample.1", "downsample.0").replace("bn", "conv"))
        convolution.register_forward_hook(lambda _, inputs, output, name=name: convolved.update({name: output}))
    images = torch.randn(2, 3, 64, 64)
    found = batch_norm_loss(raw, images)

    def distance(features, mean, variance):
        features = features.double().numpy()
        deviation = numpy.sqrt(features.var((2, 3), ddof=1) + eps)
        squares = (features.mean((2, 3)) - mean) ** 2 + (deviation - numpy.sqrt(variance + eps)) ** 2
        return squares.sum(1).mean()

    expected = (images.mean((2, 3)) ** 2 + (images.std((2, 3)) - 1) ** 2).sum(1).mean().item()
    for name, layer in layers.items():
        expected += distance(convolved[name], layer.running_mean.numpy(), layer.running_var.numpy())
    assert found == pytest.approx(expected, rel=1e-4)


def test_checkpoint_with_plain_batch_norm(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "plain.pth")
    network = retinanet.load(checkpoint=tmp_path / "plain.pth")
    assert {type(layer) for layer in batch_norms(network.module).values()} == {nn.BatchNorm2d}
    assert network.input.shape == (3, 800, 800)
    assert_equal_weights(network.module, published)


@pytest.mark.parametrize(("digits", "eps"), [("an own file", 1e-5), ("the published one", 0.0)])
def test_checkpoint_with_frozen_batch_norm(published, tmp_path, monkeypatch, digits, eps):
    path = tmp_path / "frozen.pth"
    torch.save({k: v for k, v in published.state_dict().items() if not k.endswith("num_batches_tracked")}, path)
    if digits == "the published one":
        monkeypatch.setattr(download, "sha256", lambda path: "eeacb38b" + 56 * "0")
    network = retinanet.load(checkpoint=path)
    assert {(type(layer), layer.eps) for layer in batch_norms(network.module).values()} == {(FrozenBatchNorm2d, eps)}
    assert_equal_weights(network.module, published)


def test_checkpoint_of_something_else(tmp_path):
    torch.save(resnet50().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(zeroq.ZeroQError, match=r"does not fit RetinaNet: \d+ missing"):
        retinanet.load(checkpoint=tmp_path / "weights.pth")


def test_unknown_architecture():
    with pytest.raises(zeroq.ZeroQError, match="retinanet_resnet18"):
        retinanet.load("retinanet_resnet18", Path("weights.pth"))


def assert_equal_weights(found: nn.Module, expected: nn.Module) -> None:
    state = expected.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.state_dict().items())
