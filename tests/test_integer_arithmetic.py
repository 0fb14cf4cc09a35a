"""Integer arithmetic, against onnxruntime's integer kernels and against sums of Python's own integers."""

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.export.integer_arithmetic import IntegerLayer, IntegerSum
from zeroq.export.runtime import OnnxNetwork
from zeroq.networks import zoo


class Branches(nn.Module):
    """Sums of tensors of different ranges, one in place; clamps at both ends; groups, strides, dilation."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.Hardtanh(-1, 2))
        self.wide = nn.Sequential(nn.Conv2d(16, 128, 3, padding=2, dilation=2), nn.BatchNorm2d(128), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(128, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.grouped = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.BatchNorm2d(16), nn.ReLU6())
        self.last, self.head = nn.Conv2d(16, 8, 2, stride=2), nn.Linear(8 * 64, 5)

    def forward(self, images):
        stem = self.stem(images)
        features = torch.relu(self.deep(self.wide(stem)) + stem)
        features += self.grouped(features)
        return self.head(self.last(features).flatten(1))


def quantized(model: nn.Module, images: torch.Tensor, bits: int = 8, activation_bits: int = 8, **words) -> nn.Module:
    result = zeroq.quantize(model, bits, activation_bits, "integer", **words)
    zeroq.calibrate(result, images)
    return result


def assert_same(network: nn.Module, images: torch.Tensor, path) -> None:
    """Against onnxruntime: one rounding to the other side would show by far more than float's own."""
    zeroq.export_onnx(network, path, images)
    expected = OnnxNetwork(path)(images)
    with torch.no_grad():
        torch.testing.assert_close(zeroq.integer_arithmetic(network)(images), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("bits", "activation_bits"), [(8, 8), (2, 8), (5, 4)])
@pytest.mark.parametrize("words", [{}, {"per_channel": False}, {"symmetric": False}], ids=str)
def test_it_is_what_onnxruntime_computes(images, tmp_path, bits, activation_bits, words):
    torch.manual_seed(0)
    model = estimate_statistics(Branches(), (3, 16, 16))
    network = quantized(model, images, bits, activation_bits, **words)
    assert_same(network, 2 * torch.randn(32, 3, 16, 16), tmp_path / "file.onnx")
    kernels = [type(each) for each in zeroq.integer_arithmetic(network).modules()]
    assert (kernels.count(IntegerLayer), kernels.count(IntegerSum)) == (5, 2)


@pytest.mark.parametrize("architecture", ["mobilenetv2", "shufflenet"])
def test_on_the_zoo(architecture, tmp_path):
    network = zoo.load(architecture)
    images = zeroq.gaussian_images(network.input.shape, 16)
    assert_same(quantized(network.module, images), images, tmp_path / "file.onnx")
