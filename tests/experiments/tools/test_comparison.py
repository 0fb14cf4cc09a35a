"""Other tools beside each other: what is scored and stored."""

from importlib.metadata import version

import pytest
import torch

from experiments.tools import calibration, comparison
from experiments.tools.calibration import LITE
from experiments.tools.comparison import compare
from experiments.tools.offered import BITS, TOOLS
from experiments.tools.scores import add, scores_of
from tests.paths import DATA
from zeroq.datasets.fashion_mnist import FashionMNIST

NETWORK = "fashion/resnet18"


@pytest.fixture
def few(monkeypatch):
    """Two calibration images and eight test images."""

    def first(data, specification):
        test = FashionMNIST(data, specification)
        test.images, test.labels = test.images[:8], test.labels[:8]
        return test

    monkeypatch.setattr(comparison, "FashionMNIST", first)
    monkeypatch.setattr(calibration, "COUNT", 2)


def store_all_but(folder, tool, *left):
    """Store a score of every run of a tool, except one; those of another network are no score of this one."""
    for images, bits in TOOLS[tool].runs(photographs=False):
        entry = {"network": NETWORK, "tool": tool, "images": images, "bits": bits, "seed": 0, "top1": 1.0}
        add(folder, entry | {"network": "fashion/resnet50"} if (images, bits) == left else entry)
    return scores_of(folder)


@pytest.mark.usefixtures("few")
def test_what_is_stored_is_not_scored_again(tmp_path):
    stored = store_all_but(tmp_path, "onnxruntime", "gaussian", "W8/A8")
    compare(tmp_path, NETWORK, 0, ["onnxruntime"], DATA)
    (new,) = (each for each in scores_of(tmp_path) if each not in stored)
    assert len(scores_of(tmp_path)) == len(stored) + 1
    assert (new["tool"], new["images"], new["bits"]) == ("onnxruntime", "gaussian", "W8/A8")
    assert 0 <= new["top1"] <= 100
    assert new["versions"] == {name: version(name) for name in ("torch", "onnxruntime")}


@pytest.mark.usefixtures("few")
def test_an_environments_predictions_are_scored_here(monkeypatch, tmp_path):
    """A tool that is right about every second image."""

    def predictions(tool, name, network, images, test, bits, seed):
        assert (images.shape, test.shape, bits) == ((3, *network.input.shape), (8, *network.input.shape), "W4/A4")
        wrong = torch.arange(8) % 2
        return (FashionMNIST(DATA, network.input).labels[:8] + wrong) % 10, {"torch": "2.6.0"}

    monkeypatch.setattr(comparison, "predictions", predictions)
    monkeypatch.setattr(comparison, "own_images", lambda tool, name, network, count, seed: torch.zeros(3, 1, 56, 56))
    stored = store_all_but(tmp_path, "mct", "own", "W4/A4")
    compare(tmp_path, NETWORK, 0, ["mct"], DATA)
    (new,) = (each for each in scores_of(tmp_path) if each not in stored)
    assert (new["top1"], new["images"], new["versions"]) == (50, "own", {"torch": "2.6.0"})


def test_images_are_compared_at_eight_bits_and_widths_with_what_needs_no_data():
    assert TOOLS["onnxruntime"].runs(photographs=False) == [
        ("gaussian", "W8/A8"),
        ("distilled", "W8/A8"),
        ("distilled", "W4/A8"),
        ("real", "W8/A8"),
    ]
    assert TOOLS["zeroq"].runs(photographs=False) == [("distilled", bits) for bits in BITS]
    assert {len(tool.runs(photographs=True)) for tool in TOOLS.values() if tool.by_images} == {2}, LITE
    assert {len(tool.runs(photographs=True)) for tool in TOOLS.values() if not tool.by_images} == {0}
