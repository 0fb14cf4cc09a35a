"""Which layers become integer kernels, and which stay in float."""

import pytest
import torch
from torch import nn

import zeroq
from tests.zeroq.export.networks import calibrated, steps
from zeroq.export.lowering import _scale_that_holds
from zeroq.export.runtime import OnnxNetwork, kernels
from zeroq.layers import weighted_layers

PLACEMENTS = ("integer", "layer_inputs", "after_relu")


@pytest.mark.parametrize("bits", [8, 3, 2])
def test_integer_placement_makes_every_convolution_an_integer_kernel(residual, images, tmp_path, bits):
    report = zeroq.export_onnx(calibrated(residual, images, bits, placement="integer"), tmp_path / "file.onnx", images)
    assert not report.float_layers
    found = kernels(report.path)
    assert found["QLinearConv"] == 3
    assert not found["Conv"]
    assert not found["FusedConv"]


def test_what_runs_in_float_is_said(residual, images, tmp_path):
    for placement in PLACEMENTS:
        report = zeroq.export_onnx(calibrated(residual, images, placement=placement), tmp_path / "file.onnx", images)
        convolutions = [layer for layer in report.layers if layer.kind == "Conv2d"]
        integer = sum(layer.is_integer for layer in convolutions)
        assert kernels(report.path)["QLinearConv"] == integer
        assert (integer == 3) == (placement == "integer")
        assert all(
            reason in ("its input is not quantized", "its output is not quantized")
            for reason in report.float_layers.values()
        )


def test_shared_layers_are_stored_once(hand_written, images, tmp_path):
    quantized = calibrated(hand_written, images, 8, placement="integer")
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    counts = sum(layer.weight.numel() for layer in weighted_layers(hand_written).values())
    assert report.weights_mib * 2**20 == counts
    assert steps(quantized(images), OnnxNetwork(report.path)(images)) < 4
    assert report.float_layers["stem"] == "its forward does more than its weight and bias say"


def test_half_precision(residual, images, tmp_path):
    quantized = calibrated(residual.bfloat16(), images.bfloat16(), placement="integer")
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images.bfloat16())
    found = OnnxNetwork(report.path)(images)["scores"]
    assert steps(quantized.float()(images)["scores"], found) < 4


def test_the_network_stays_as_it_was(residual, images, tmp_path):
    quantized = calibrated(residual, images, placement="layer_inputs")
    before = {name: value.clone() for name, value in quantized.state_dict().items()}
    expected = quantized(images)["scores"]
    zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    assert all(torch.equal(value, before[name]) for name, value in quantized.state_dict().items())
    assert torch.equal(quantized(images)["scores"], expected)


class Viewed(nn.Module):
    """A part of a tensor is changed in place, an argument has a default, and the end is a softmax."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, images, mask=None):
        features = self.first(images)
        part, _ = features.chunk(2, dim=1)[0].view(-1, 4, 14, 14), mask
        part.relu_()
        return torch.softmax(5 * self.second(features).mean((2, 3)), dim=1)


def test_views_that_are_changed_in_place(images, tmp_path):
    network = Viewed().eval()
    with pytest.raises(
        zeroq.ZeroQError, match=r"test_lowering\.py\", line \d+, in forward changes in place what is a part"
    ):
        zeroq.quantize(network, placement="integer")
    quantized = calibrated(network, images, placement="layer_inputs")
    with pytest.raises(zeroq.ZeroQError, match="changes in place what is a part"):
        zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("dead", [True, False])
def test_every_bias_has_an_integer_of_32_bits(per_channel, dead):
    """Biases far above what a channel's weights reach, in units of input scale × weight scale."""
    bias = torch.tensor([0.0, 1e-3, 5.0, -3e4, 1e9])
    input_scale, scale = torch.tensor(0.01), torch.tensor([1e-9, 1e-6, 1e-3, 1e-8, 1e-7])
    zeros = torch.tensor([dead, False, dead, False, False])
    if not per_channel:
        scale, zeros = scale[0], zeros.all()
    found = _scale_that_holds(bias, input_scale, scale, zeros)
    assert found.shape == scale.shape
    units = bias.double() / (input_scale.double() * found.double())
    assert units.abs().max() < 2**31
    assert (found >= scale)[~zeros].all() if per_channel else found >= scale
    # And no coarser than that asks for: the largest keeps 29 bits.
    assert units.abs().max() > 2**28


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("placement", ["integer", "layer_inputs"])
def test_a_narrow_grid_ends_where_it_was_simulated_to_end(bits, placement, tmp_path):
    """On images far out of the range that was calibrated, so that all ends are reached."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    ).eval()
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    quantized = calibrated(network, images, 8, bits, placement=placement)
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    with torch.no_grad():
        expected, float_scores = quantized(20 * images), network(20 * images)
        found = OnnxNetwork(report.path)(20 * images)
    assert float_scores.abs().max() > 4 * expected.abs().max()  # the ends cut
    assert steps(expected, found, bits) < 1.5
