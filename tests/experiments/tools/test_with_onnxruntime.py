"""onnxruntime's own quantization."""

from experiments.tools import calibration, with_onnxruntime
from zeroq.networks import zoo


def test_a_network_of_the_zoo(monkeypatch):
    monkeypatch.setattr(calibration, "COUNT", 2)
    network = zoo.load("resnet18")
    images = calibration.calibration_images(network, "gaussian", 0)
    assert images.shape == (2, *network.input.shape)
    model = with_onnxruntime.quantize(network.module, images)
    assert model(images).shape == (2, 10)
