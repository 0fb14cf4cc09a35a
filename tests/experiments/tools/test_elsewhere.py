"""The exchange with a tool's own environment, for which this one stands in, with a tool that needs none."""

import sys
from importlib.metadata import version

import pytest

from experiments.tools import elsewhere
from experiments.tools.offered import Tool
from experiments.tools.with_zeroq import quantize
from zeroq.errors import ZeroQError
from zeroq.images import gaussian_images
from zeroq.networks import zoo

STAND_IN = Tool("zeroq", "with_zeroq", "torch", environment="none", options={"method": "zeroq"})


@pytest.fixture(autouse=True)
def this_interpreter(monkeypatch, tmp_path):
    monkeypatch.setattr(elsewhere, "python_of", lambda environment: sys.executable)
    monkeypatch.setattr(elsewhere, "LOGS", tmp_path)


def test_what_comes_back_are_the_quantized_networks_classes():
    network = zoo.load("resnet18")
    images = gaussian_images(network.input.shape, 3, seed=0)
    found, versions = elsewhere.predictions(STAND_IN, "fashion/resnet18", network, images[:2], images, "W8/A8", 0)
    assert found.tolist() == quantize(network.module, images[:2], 8, 8, method="zeroq")(images).argmax(1).tolist()
    assert versions == {"torch": version("torch")}


def test_a_failure_names_the_log(tmp_path):
    network = zoo.load("resnet18")
    with pytest.raises(ZeroQError, match=r"zeroq failed on fashion/resnet18; .*with_zeroq\.log has its own words"):
        elsewhere.own_images(STAND_IN, "fashion/resnet18", network, 2, 0)  # it makes no images
    (log,) = tmp_path.glob("*.log")
    assert "generate" in log.read_text()
