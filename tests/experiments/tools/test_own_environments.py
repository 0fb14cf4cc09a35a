"""MCT and AIMET, where their environments are made."""

import pytest

from experiments.tools import elsewhere, environment
from experiments.tools.offered import TOOLS
from tests.paths import ROOT
from zeroq.images import gaussian_images
from zeroq.networks import zoo

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("tool", [name for name, tool in TOOLS.items() if tool.environment])
def test_rounds_to_eight_bits(tool, monkeypatch, tmp_path):
    place = ROOT / environment.FOLDER / TOOLS[tool].environment
    if not (place / f"requirements-{TOOLS[tool].environment}.txt").exists():
        pytest.skip(f"{place} is made by `python -m experiments.other_tools`")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(elsewhere, "LOGS", tmp_path)
    network = zoo.load("mobilenetv2")
    images = gaussian_images(network.input.shape, 8, seed=0)
    found, _ = elsewhere.predictions(TOOLS[tool], "fashion/mobilenetv2", network, images, images, "W8/A8", 0)
    assert (found == network.module(images).argmax(1)).sum() >= 6
