"""Other tools beside each other: what is stored, and the table of it."""

import json
import sys
from pathlib import Path

import pytest

from experiments import other_tools, with_onnxruntime
from experiments.other_tools import SOURCES, TOOLS, calibration_images, tools_table
from zeroq.networks import zoo

COMMITTED = Path(__file__).parents[1] / "results" / "other_tools"


def test_the_committed_table_is_that_of_the_committed_scores():
    table = tools_table(COMMITTED)
    assert (COMMITTED / "table.md").read_text() == table.markdown()
    assert set(table.frame.Tool) == set(TOOLS.values())


def test_the_table(tmp_path):
    entry = {"network": "fashion/resnet18", "tool": "nncf", "images": "distilled", "fp32_top1": 92.0}
    for seed, top1 in enumerate((91.0, 92.0)):
        (tmp_path / f"{seed}.json").write_text(json.dumps(entry | {"seed": seed, "top1": top1}))
    (row,) = tools_table(tmp_path).frame.to_dict("records")
    assert row == {
        "Network": "fashion/resnet18",
        "Tool": TOOLS["nncf"],
        "FP32": "92.00",
        "Gaussian": "–",
        "Distilled": "91.50 ± 0.71 (2)",
        SOURCES["real"]: "–",
    }


def test_onnxruntime_with_every_kind_of_images(monkeypatch, tmp_path):
    """On the quickest network and few images; what is stored is not done again."""
    monkeypatch.setattr(other_tools, "COUNT", 2)
    monkeypatch.setattr(other_tools, "score", lambda model, test, name: float(model(test[0][0][None]).argmax()))
    network = zoo.load("resnet18")
    images = calibration_images(network, "gaussian", 0)
    assert images.shape == (2, *network.input.shape)
    model = with_onnxruntime.quantize(network.module, images)
    assert model(images).shape == (2, 10)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("tools=tvm", "there is no tool 'tvm'"),
        ("networks=imagenet/resnet18", "of the embedded zoo"),
        ("seeds=a", "invalid literal"),
        ("rum=a", "unknown argument"),
    ],
)
def test_bad_arguments(monkeypatch, tmp_path, argument, said):
    monkeypatch.setattr(sys, "argv", ["other_tools", argument, f"results={tmp_path}"])
    with pytest.raises(SystemExit, match=said):
        other_tools.main()
