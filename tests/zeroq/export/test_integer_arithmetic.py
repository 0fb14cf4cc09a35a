"""Integer arithmetic, against onnxruntime's integer kernels and against sums of Python's own integers."""

from fractions import Fraction

import numpy
import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.export.integer_arithmetic import IntegerLayer, IntegerSum, _fused
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


class Perceptron(nn.Module):
    """Linear layers between quantizers."""

    def __init__(self):
        super().__init__()
        self.layer, self.first, self.second = nn.Conv2d(3, 16, 3), nn.Linear(16 * 14 * 14, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, images):
        features = torch.relu(self.first(torch.relu(self.layer(images)).flatten(1)))
        return self.head(torch.relu(self.second(features) + features))


def test_linear_layers(images, tmp_path):
    torch.manual_seed(0)
    network = quantized(Perceptron().eval(), images)
    assert_same(network, torch.randn(64, 3, 16, 16), tmp_path / "file.onnx")
    assert sum(isinstance(each, IntegerLayer) for each in zeroq.integer_arithmetic(network).modules()) == 3


class Odd(nn.Module):
    """A layer called twice and by keyword, a tensor added to itself, to its mean, to a multiple, to a constant."""

    def __init__(self):
        super().__init__()
        self.first, self.twice = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 4, 3)

    def forward(self, images):
        features = torch.relu(self.first(input=images))
        features = torch.relu(self.twice(features))
        features = features + features
        features = features + features.mean((2, 3), keepdim=True)
        features = torch.add(features, torch.relu(self.twice(features)), alpha=2)
        features += 1
        return self.head(features)


def test_odd_calls(images, tmp_path):
    torch.manual_seed(0)
    assert_same(quantized(Odd().eval(), images), torch.randn(32, 3, 16, 16), tmp_path / "file.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [each for each in zoo.ARCHITECTURES if each != "retinanet"])
def test_on_the_zoo(architecture, tmp_path):
    network = zoo.load(architecture)
    images = zeroq.gaussian_images(network.input.shape, 16)
    assert_same(quantized(network.module, images), images, tmp_path / "file.onnx")


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu"])
def test_other_placements_are_integer_where_two_quantizers_meet(images, tmp_path, placement):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 4, 3)
    )
    network = zeroq.quantize(model.eval(), 8, 8, placement, symmetric=True)
    zeroq.calibrate(network, images)
    assert_same(network, images, tmp_path / "file.onnx")
    assert any(isinstance(each, IntegerLayer) for each in zeroq.integer_arithmetic(network).modules())


@pytest.mark.parametrize("network", ["hand_written", "no_norm"])
def test_networks_that_are_not_all_convolutions_and_batch_norm(request, network, images, tmp_path):
    assert_same(quantized(request.getfixturevalue(network), images), images, tmp_path / "file.onnx")


def test_sums_that_float32_does_not_hold(tmp_path):
    """2,048 products of odd integers, against numpy's integers and against onnxruntime."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2048, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    model[0].weight.data = (2 * torch.randint(45, 64, (4, 2048, 1, 1)) + 1).float()
    model[0].weight.data[:, 0] = 127  # of a symmetric grid of 8 bits, so that the weights are their integers
    images = (2 * torch.randint(100, 128, (8, 2048, 1, 1)) + 1).float()
    images[0, 0] = 255
    network = quantized(model, images)
    (kernel,) = (each for each in zeroq.integer_arithmetic(network).modules() if isinstance(each, IntegerLayer))
    weights, pixels = (each.flatten(1).numpy().astype(int) for each in (model[0].weight.detach(), images))
    total = pixels @ weights.T + kernel.bias.flatten().numpy()
    assert not kernel.fits_float32
    assert total.min() > 2**24
    expected = numpy.rint(total.astype(numpy.float32) * kernel.factor.flatten().numpy())
    numpy.testing.assert_array_equal((kernel(images) / kernel.output_scale).flatten(1).numpy(), expected)
    assert_same(network, images, tmp_path / "file.onnx")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_network_stays_as_it_was(hand_written, images, dtype):
    network = quantized(hand_written.to(dtype), images.to(dtype))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = network(images.to(dtype))
    assert zeroq.integer_arithmetic(network)(images).dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(network(images.to(dtype)), expected)


def test_networks_without_such_arithmetic(hand_written, images):
    for network, words in (
        (zeroq.quantize(hand_written, 8, 8, "integer"), "has no range yet"),
        (zeroq.quantize(hand_written, 8, 8, "integer", dynamic=True), "each batch's own"),
        (hand_written, "not quantized"),
    ):
        with pytest.raises(zeroq.ZeroQError, match=words):
            zeroq.integer_arithmetic(network)


def test_a_fused_product_and_sum_is_rounded_once():
    """Against exact fractions: rounding the product first gives another number in one of three cases."""
    random = numpy.random.default_rng(0)
    values = random.normal(size=(3, 300)).astype(numpy.float32)
    found = _fused(*map(torch.from_numpy, values)).numpy()
    exact = [numpy.float32(float(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))) for a, b, c in values.T]
    assert (found == numpy.array(exact)).all()
    assert (found != values[0] * values[1] + values[2]).mean() > 0.1
