"""Exported files: the numbers in them, what onnxruntime makes of them, and bad input."""

import json

import numpy
import onnx
import pytest
import torch
from onnx.numpy_helper import to_array
from torch import nn

import zeroq
from tests.zeroq.export.networks import calibrated, steps
from zeroq.errors import ZeroQError
from zeroq.export.runtime import OnnxNetwork, kernels
from zeroq.layers import weighted_layers
from zeroq.networks import zoo


@pytest.mark.parametrize(
    ("placement", "widths"), [("integer", 8), ("integer", "mixed"), ("layer_inputs", "mixed"), ("after_relu", 4)]
)
def test_the_file_computes_what_the_simulation_said(residual, images, tmp_path, placement, widths):
    names = list(weighted_layers(residual))
    plan = dict(zip(names, (8, 2, 5, 4), strict=True)) if widths == "mixed" else widths
    quantized = calibrated(residual, images, plan, placement=placement)
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    network = OnnxNetwork(report.path)
    for count in (1, 8):  # batches of any size
        expected, found = quantized(images[:count]), network(images[:count])
        assert found.keys() == expected.keys()
        assert len(found["maps"]) == 1
        # A rounding that falls to the other side moves a value by one step, and what is computed from it.
        assert steps(expected["scores"], found["scores"]) < 2
        assert steps(expected["maps"][0], found["maps"][0]) < 4
    stored = json.loads(network.session.get_modelmeta().custom_metadata_map["zeroq.plan"])
    assert stored == (plan if widths == "mixed" else dict.fromkeys(names, plan))


@pytest.mark.parametrize(
    ("bits", "per_channel", "symmetric"), [(8, True, True), (8, True, False), (4, False, False), (2, True, False)]
)
def test_stored_integers_are_the_network_s_own(residual, images, tmp_path, bits, per_channel, symmetric):
    """Against BatchNorm folded into the quantized weights in float64."""
    quantized = calibrated(
        residual, images, bits, placement="layer_inputs", per_channel=per_channel, symmetric=symmetric
    )
    zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    tensors = {each.name: each for each in onnx.load(tmp_path / "file.onnx").graph.initializer}
    for layer, norm in (("stem.0", "stem.1"), ("branch.0", "branch.1"), ("branch.3", "branch.4"), ("head", None)):
        (integers,) = (to_array(each) for name, each in tensors.items() if is_of(name, layer, "weight_integers"))
        (kind,) = (each.data_type for name, each in tensors.items() if is_of(name, layer, "weight_integers"))
        assert kind == getattr(onnx.TensorProto, f"{'' if symmetric else 'U'}INT{bits}")
        values = integers.astype(numpy.float64) * (1 if bits == 8 else 2 ** (8 - bits))
        node = next(
            node
            for node in onnx.load(tmp_path / "file.onnx").graph.node
            if node.op_type == "DequantizeLinear"
            and is_of(node.input[0].removesuffix("_wide"), layer, "weight_integers")
        )
        scale, zero_point = (to_array(tensors[name]).astype(numpy.float64) for name in node.input[1:])
        shape = (-1, *[1] * (values.ndim - 1))
        dequantized = (values - zero_point.reshape(shape)) * scale.reshape(shape)
        weight = quantized.get_submodule(layer).weight.detach().double()
        if norm:
            module = residual.get_submodule(norm)
            factor = module.weight.detach().double() / (module.running_var.double() + module.eps).sqrt()
            weight = weight * factor.view(-1, 1, 1, 1)
        numpy.testing.assert_allclose(dequantized, weight.numpy(), rtol=1e-5, atol=1e-7)


def is_of(name: str, layer: str, buffer: str) -> bool:
    """Whether an initializer is a layer's buffer."""
    return name.startswith(f"{layer}_") and name.endswith(f".{buffer}")


@pytest.mark.parametrize("activation_bits", [8, 3])
def test_fewer_activation_bits_are_a_shorter_grid(residual, images, tmp_path, activation_bits):
    quantized = calibrated(residual, images, 8, activation_bits, placement="integer")
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    found = OnnxNetwork(report.path)(images)["maps"][0]
    assert len(found.unique()) <= 2**activation_bits
    assert steps(quantized(images)["maps"][0], found, activation_bits) < 2.01


def test_where_the_bytes_are(residual, images, tmp_path):
    names = list(weighted_layers(residual))
    plan = dict(zip(names, (8, 3, 5, 2), strict=True))
    report = zeroq.export_onnx(calibrated(residual, images, plan, placement="integer"), tmp_path / "file.onnx", images)
    size = (tmp_path / "file.onnx").stat().st_size
    assert report.file_mib * 2**20 == size
    assert report.weights_mib + report.parameters_mib + report.graph_mib == pytest.approx(report.file_mib, rel=1e-6)
    counts = [layer.weight.numel() for layer in weighted_layers(residual).values()]
    assert report.planned_weights_mib * 2**20 == sum(n * b for n, b in zip(counts, (8, 3, 5, 2), strict=True)) / 8
    assert report.weights_mib * 2**20 == sum(n * b for n, b in zip(counts, (8, 4, 8, 2), strict=True)) / 8
    assert report.wider_layers == {names[1]: (3, 4), names[2]: (5, 8)}


@pytest.mark.slow
def test_a_detector(tmp_path):
    network = zoo.load("retinanet")
    images = zeroq.gaussian_images(network.input.shape, 2)
    quantized = calibrated(network.module, images, 8, placement="integer")
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    expected, found = quantized(images), OnnxNetwork(report.path)(images)
    assert found.keys() == expected.keys()
    assert len(found["pyramid"]) == 5
    # Of the heads, the last convolution on each of five levels of the pyramid.
    assert set(report.float_layers) == {"head.classification_head.cls_logits", "head.regression_head.bbox_reg"}
    assert kernels(report.path)["QLinearConv"] == len(report.layers) - 10
    detections = network.detector(OnnxNetwork(report.path))(list(torch.rand(2, *network.input.shape)))
    assert [each.keys() for each in detections] == [{"boxes", "scores", "labels"}] * 2


def test_a_state_dict_brings_its_bits(residual, images, tmp_path):
    quantized = calibrated(residual, images, 4)
    reloaded = zeroq.quantize(residual, 8, 8)
    reloaded.load_state_dict(quantized.state_dict())
    for name, each in (("one", quantized), ("other", reloaded)):
        zeroq.export_onnx(each, tmp_path / f"{name}.onnx", images)
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


class Unknown(nn.Module):
    """An operator that ONNX has no name for."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return torch.linalg.eigvals(self.layer(images)).real


class Named(nn.Module):
    """Several tensors of one operator, and an output with the input's name."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, images):
        largest, _ = torch.max(self.second(torch.relu(self.first(images))), dim=1, keepdim=True)
        one = largest.expand(-1, 8, -1, -1).unbind(1)[0]
        return {"images": one * 2}


class Optional(nn.Module):
    """An output that is not there."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.layer(images), None


@pytest.mark.parametrize("placement", ["integer", "layer_inputs"])
def test_several_tensors_and_names(images, tmp_path, placement):
    quantized = calibrated(Named(), images, placement=placement)
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    assert steps(quantized(images)["images"], OnnxNetwork(report.path)(images)["images"]) < 3


def uncalibrated(model, images):
    return zeroq.quantize(model, 8, 8)


def partly_calibrated(model, images):
    quantized = calibrated(model, images)
    quantized.head.input_quantizer.scale.fill_(float("nan"))
    quantized.head.input_quantizer._read_buffers()
    return quantized


def naive(model, images):
    return zeroq.quantize(model, 8, 8, dynamic=True)


def optional(model, images):
    return calibrated(Optional(), images)


def unknown(model, images):
    return calibrated(Unknown(), images)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (uncalibrated, "has no range yet; call zeroq.calibrate"),
        (partly_calibrated, "'head_input_quantizer' has no range yet"),
        (naive, "each batch's own"),
        (lambda model, images: model, "not quantized; export what zeroq.quantize"),
        (optional, "the network's output '1' is no tensor"),
        (unknown, r"torch.onnx cannot export the network: .*linalg_eig"),
    ],
)
def test_networks_that_cannot_be_exported(residual, images, tmp_path, make, words):
    with pytest.raises(ZeroQError, match=words) as raised:
        zeroq.export_onnx(make(residual, images), tmp_path / "file.onnx", images)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_opsets(residual, images, tmp_path):
    for bits, opset, words in (
        (4, 18, "opset 18 has no integers of 4 bits, which 4 layers need.*use opset=21 or later$"),
        (2, 21, "opset 21 has no integers of 2 bits.*use opset=25$"),
        (8, 13, "opsets are 18 to 25, not 13"),
        (8, 99, "opsets are 18 to 25, not 99"),
        (8, 21.0, "opsets are 18 to 25, not 21.0"),
    ):
        with pytest.raises(ZeroQError, match=words):
            zeroq.export_onnx(calibrated(residual, images, bits), tmp_path / "file.onnx", images, opset=opset)
    assert not list(tmp_path.iterdir())
    assert zeroq.export_onnx(calibrated(residual, images), tmp_path / "file.onnx", images, opset=18).path.exists()


def test_paths_that_cannot_be_written(residual, images, tmp_path):
    quantized = calibrated(residual, images)
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "file.onnx", tmp_path / "folder"):
        with pytest.raises(ZeroQError, match="cannot write"):
            zeroq.export_onnx(quantized, path, images)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.parametrize("placement", ["integer", "layer_inputs"])
def test_a_layer_that_is_called_twice_is_stored_once(placement, hand_written, images, tmp_path):
    quantized = calibrated(hand_written, images, placement=placement)
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    stored = [each.raw_data for each in onnx.load(report.path).graph.initializer if len(each.raw_data) > 32]
    assert len(stored) == len(set(stored))
