"""Sums that leave 16 bits, which x86 processors without VNNI add two products in: right on every processor."""

import onnx
import pytest
import torch
from torch import nn

import zeroq
from zeroq.export.runtime import OnnxNetwork
from zeroq.export.separate import with_separate_weights


class CalledTwice(nn.Module):
    """Two convolutions, the first called twice, with weights and inputs at the ends of their ranges."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(2))
        self.classifier = nn.Linear(3, 5)
        for layer in (self.first, self.second):
            layer.weight.data.fill_(1).view(-1)[::5] = -1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.first(self.second(self.first(images).relu()).relu()).relu()
        return self.classifier(features.mean((2, 3)))


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_the_file_sums_what_the_integers_are(bits, tmp_path):
    torch.manual_seed(0)
    images = torch.rand(8, 3, 9, 9).round()
    quantized = zeroq.quantize(CalledTwice().eval(), bits, 8, "integer", input_shape=(3, 9, 9))
    zeroq.calibrate(quantized, images)
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    assert report.first_difference is None
    with torch.no_grad():
        expected = zeroq.integer_arithmetic(quantized)(images)
    torch.testing.assert_close(OnnxNetwork(report.path)(images), expected, rtol=1e-6, atol=1e-6)


def test_a_file_with_separate_weights_is_the_same_network(tmp_path):
    quantized = zeroq.quantize(CalledTwice().eval(), 8, 8, "integer", input_shape=(3, 9, 9))
    zeroq.calibrate(quantized, torch.rand(8, 3, 9, 9))
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images := torch.rand(4, 3, 9, 9))
    (tmp_path / "separate.onnx").write_bytes(with_separate_weights(report.path))
    model = onnx.load(tmp_path / "separate.onnx")
    onnx.checker.check_model(model)
    weights = [node.input[1] for node in model.graph.node if node.op_type == "Conv"]
    assert len(set(weights)) == len(weights) == 3
    assert torch.equal(OnnxNetwork(tmp_path / "separate.onnx")(images), OnnxNetwork(report.path)(images))


def test_no_two_weights_share_a_zero_point(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(100, 4)).eval()
    quantized = zeroq.quantize(network, 8, 8, "integer", input_shape=(3, 9, 9))
    zeroq.calibrate(quantized, images := torch.rand(8, 3, 9, 9))
    graph = onnx.load(zeroq.export_onnx(quantized, tmp_path / "file.onnx", images).path).graph
    constants = {tensor.name for tensor in graph.initializer}
    of_weights = [node.input[2] for node in graph.node if node.input[0] in constants and "weight" in node.input[0]]
    assert len(set(of_weights)) == len(of_weights) == 3
