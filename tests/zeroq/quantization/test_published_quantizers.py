"""``weight_range="min_max"``, ``calibration="quantized"`` and placement ``after_relu`` are the published quantizers."""

import copy

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.layers import weighted_layers
from zeroq.quantization.affine import affine_parameters, fake_quantize, quantized_weight, weight_parameters
from zeroq.quantization.convert import activation_quantizers

SHAPE = (3, 16, 16)
RANGES = ("with_zero", "min_max")


def published(values: torch.Tensor, bits: int, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Values on the published code's grid, by its formulas: integers from −2ᵏ⁻¹ to 2ᵏ⁻¹ − 1, scales multiply."""
    scale = (2**bits - 1) / (high - low).clamp_min(1e-8)
    zero_point = (scale * low).round() + 2 ** (bits - 1)
    integers = (scale * values - zero_point).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (integers + zero_point) / scale


class PublishedRelu(nn.Module):
    """A ReLU whose range grows with what it sees, and which quantizes meanwhile; a range begins as 0 … 0."""

    def __init__(self, relu: nn.Module, bits: int):
        super().__init__()
        self.relu, self.bits, self.grows = relu, bits, True
        self.low, self.high = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(x)
        if self.grows:
            self.low, self.high = torch.minimum(self.low, x.min()), torch.maximum(self.high, x.max())
        return published(x, self.bits, self.low, self.high)


def published_network(model: nn.Module, images: torch.Tensor, weight_bits: int, activation_bits: int) -> nn.Module:
    """The published quantized network in float64, calibrated on images."""
    found = copy.deepcopy(model).double().eval()
    for module in list(found.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            rows = module.weight.detach().flatten(1)
            low, high = rows.min(1, keepdim=True).values, rows.max(1, keepdim=True).values
            module.weight.data = published(rows, weight_bits, low, high).view_as(module.weight)
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU | nn.ReLU6):
                setattr(module, name, PublishedRelu(child, activation_bits))
    with torch.no_grad():
        found(images.double())
    for module in found.modules():
        if isinstance(module, PublishedRelu):
            module.grows = False
    return found


class Network(nn.Module):
    """Depthwise kernels without a change of sign, single weights, a sum, a ReLU used twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.depthwise, self.scaled = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1, groups=8)
        self.point, self.other_norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.relu, self.six = nn.ReLU(), nn.ReLU6()
        self.head = nn.Linear(8, 5)
        with torch.no_grad():
            self.depthwise.weight.abs_().add_(0.3)[::2].neg_()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.stem(x)))
        y = self.relu(self.scaled(self.depthwise(x)))
        return self.head(self.six(self.other_norm(self.point(y)) + x).mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return estimate_statistics(Network(), SHAPE)


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(8, 8), (6, 6), (4, 8), (4, 4), (2, 3)])
def test_the_published_quantized_network(network, weight_bits, activation_bits):
    images, others = zeroq.gaussian_images(SHAPE, 8), zeroq.gaussian_images(SHAPE, 64, seed=1)
    how = {"placement": "after_relu", "mixed": False, "weight_range": "min_max", "calibration": "quantized"}
    chosen = zeroq.Settings(weight_bits, activation_bits, **how)
    quantized = zeroq.quantize_with_images(network, images, chosen).model
    reference = published_network(network, images, weight_bits, activation_bits)
    with torch.no_grad():
        ours, theirs, exact = quantized(others).double(), reference(others.double()), network(others).double()
    assert (ours.mean(0) - theirs.mean(0)).abs().max() < 1e-5
    assert (ours - theirs).abs().mean() < 1e-3 * (exact - theirs).abs().mean()
    for left_out in ("weight_range", "calibration"):
        chosen = zeroq.Settings(weight_bits, activation_bits, **{k: how[k] for k in how if k != left_out})
        other = zeroq.quantize_with_images(network, images, chosen).model
        with torch.no_grad():
            assert (other(others) - theirs).abs().mean() > 10 * (ours - theirs).abs().mean()


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8), spread=st.floats(1e-3, 1e2), shift=st.floats(-50, 50))
def test_a_range_that_is_not_extended_is_the_published_grid(seed, bits, spread, shift):
    values = spread * torch.randn(200, generator=torch.Generator().manual_seed(seed)) + shift
    parameters = affine_parameters(values.min(), values.max(), bits, with_zero=False)
    found, exact = fake_quantize(values, parameters).double(), values.double()
    expected = published(exact, bits, exact.min(), exact.max())
    step = (exact.max() - exact.min()) / (2**bits - 1)
    # As exact as float32 is for values so far from 0; of values half way between two steps either is right.
    tolerance = 1e-4 * step + 1e-6 * exact.abs().max()
    place = exact / step
    tie = (place % 1 - 0.5).abs() < 1e-3 + 1e-5 * place.abs()
    ends = (exact.min() / step % 1 - 0.5).abs() < 1e-3 + 1e-5 * place.abs().max()
    assert ((found - expected).abs()[~tie] <= tolerance).all() or ends
    assert ((found - exact).abs() <= step / 2 + step / 2 + tolerance).all()


def test_a_range_that_holds_zero_is_not_changed():
    weight = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    for with_zero, as_it_is in zip(*(weight_parameters(weight, 4, weight_range=r) for r in RANGES), strict=True):
        assert with_zero == as_it_is if isinstance(with_zero, int) else torch.equal(with_zero, as_it_is)


@pytest.mark.parametrize("value", [0.0, 0.3, -0.3, 1e-7, -3e4])
def test_weights_without_a_width_stay(value):
    """Depthwise 1 × 1 kernels have one weight a channel."""
    weight = torch.full((3, 1, 1, 1), value)
    for bits in range(2, 9):
        torch.testing.assert_close(quantized_weight(weight, bits, weight_range="min_max"), weight, rtol=1e-6, atol=0)


def test_a_narrow_range_far_from_zero_has_a_zero_point_of_32_bits():
    weight = 1 + torch.linspace(0, 1e-7, 50).view(1, 50)
    parameters = weight_parameters(weight, 8, weight_range="min_max")
    assert -(2**31) < parameters.zero_point.item() < 0
    torch.testing.assert_close(fake_quantize(weight, parameters), weight, rtol=1e-6, atol=0)


def test_symmetric_weights_have_no_other_range(network):
    images = zeroq.gaussian_images(SHAPE, 2)
    sentence = "zero points fixed at 0, as placement integer has them, have no weight_range min_max"
    for how in ({"symmetric": True}, {"placement": "integer"}):
        with pytest.raises(zeroq.ZeroQError, match=sentence):
            zeroq.quantize(network, weight_range="min_max", **how)
        with pytest.raises(zeroq.ZeroQError, match=sentence):
            zeroq.Settings(weight_range="min_max", **how).check_values()
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.sensitivity(network, images, symmetric=True, weight_range="min_max")
    assert zeroq.quantize(network, placement="integer", symmetric=False, weight_range="min_max") is not None


def test_words_that_are_none(network):
    images = zeroq.gaussian_images(SHAPE, 2)
    with pytest.raises(zeroq.ZeroQError, match="weight_range must be one of with_zero, min_max, not 'minmax'"):
        zeroq.quantize(network, weight_range="minmax")
    with pytest.raises(zeroq.ZeroQError, match="weight_range must be one of"):
        zeroq.sensitivity(network, images, weight_range="minmax")
    with pytest.raises(zeroq.ZeroQError, match="calibration must be one of float, quantized, not 'both'"):
        zeroq.calibrate(zeroq.quantize(network), images, calibration="both")
    with pytest.raises(zeroq.ZeroQError, match="calibration must be one of"):
        zeroq.activation_sensitivity(network, images, calibration="both")
    with pytest.raises(zeroq.ZeroQError, match="calibration must be one of"):
        zeroq.Settings(calibration="both").check_values()


@pytest.mark.parametrize("name", ["dfq", "naive"])
def test_ranges_that_are_not_of_images_are_not_recorded(network, name):
    with pytest.raises(zeroq.ZeroQError, match=f"calibration is of ranges from images, and method {name} has none"):
        zeroq.zero_shot_quantize(network, SHAPE, 8, 8, method=name, calibration="quantized")


@pytest.mark.parametrize("percentile", [None, 99.0])
def test_ranges_behind_quantized_activations(percentile):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)]
    quantized = zeroq.quantize(nn.Sequential(*layers), 4, 3)
    x = images = zeroq.gaussian_images(SHAPE, 4)
    zeroq.calibrate(quantized, images, percentile, "quantized")
    tails = (0, 100) if percentile is None else (1, 99)
    with torch.no_grad():
        for layer, quantizer in zip(quantized, activation_quantizers(quantized).values(), strict=True):
            low, high = numpy.percentile(x.double().numpy(), tails)
            assert quantizer.scale.item() == pytest.approx((high - low) / 7, rel=1e-5)
            x = layer(x)
    assert torch.equal(quantized(images), x)


def test_sensitivities_are_of_the_range_that_is_used(network):
    images = zeroq.gaussian_images(SHAPE, 4)
    for rounding in ("nearest", "compensated"):
        for mode in ("exact", "estimated"):
            tables = [
                zeroq.sensitivity(network, images, (3, 4), mode=mode, rounding=rounding, weight_range=each)
                for each in RANGES
            ]
            differ = (tables[0] != tables[1]).any(axis=1)
            assert differ["depthwise"]
            assert not differ["head"]
    result = zeroq.zero_shot_quantize(network, SHAPE, 4, 4, images=images, method="real", weight_range="min_max")
    alone = zeroq.sensitivity(network, images, weight_range="min_max")
    numpy.testing.assert_allclose(result.sensitivity, alone, rtol=1e-3)


@pytest.mark.parametrize("rounding", ["compensated", "learned"])
def test_other_roundings_keep_to_the_range(network, rounding):
    images = zeroq.gaussian_images(SHAPE, 8)
    quantized = zeroq.quantize(network, 3, 8, rounding=rounding, images=images, weight_range="min_max")
    for name, layer in weighted_layers(network).items():
        rows = layer.weight.detach().flatten(1).double()
        low, high = rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)
        found = quantized.get_submodule(name).weight.detach().flatten(1).double()
        step = (high - low) / 7
        assert (found >= low - step / 2 - 1e-5).all()
        assert (found <= high + step / 2 + 1e-5).all()


def test_activations_are_measured_behind_quantized_ones(network):
    images = zeroq.gaussian_images(SHAPE, 4)
    tables = [
        zeroq.activation_sensitivity(network, images, (2, 3), placement="after_relu", calibration=each)
        for each in ("float", "quantized")
    ]
    differ = (tables[0] != tables[1]).any(axis=1)
    assert differ["six"]


def test_a_file_holds_only_zero_points_of_the_grid(network, tmp_path):
    images = zeroq.gaussian_images(SHAPE, 2)
    quantized = zeroq.quantize(network, 8, 8, weight_range="min_max")
    zeroq.calibrate(quantized, images)
    path = tmp_path / "network.onnx"
    sentence = "layer 'depthwise' has zero points outside of its weight's 8 bits, which no file holds; quantize with"
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.export_onnx(quantized, path, images)
    assert not path.exists()
    quantized = zeroq.quantize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)), weight_range="min_max")
    zeroq.calibrate(quantized, images)
    assert zeroq.export_onnx(quantized, path, images).path.exists()
