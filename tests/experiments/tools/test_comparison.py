"""Other tools beside each other: what is stored, and the table of it."""

import json
import sys
from importlib import import_module

import pytest
import torch
from torch import nn

from experiments import other_tools
from experiments.other_tools import SOURCES, TOOLS, calibration_images, tools_table
from experiments.tools import with_onnxruntime
from tests.paths import RESULTS
from zeroq.networks import zoo

COMMITTED = RESULTS / "other_tools"


def test_the_committed_table_is_that_of_the_committed_scores():
    table = tools_table(COMMITTED)
    assert (COMMITTED / "table.md").read_text() == table.markdown()
    assert (COMMITTED / "table.tex").read_text() == table.latex()
    assert (COMMITTED / "table.csv").read_text() == table.frame.to_csv(index=False)
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


def test_onnxruntime_on_a_network_of_the_zoo(monkeypatch):
    monkeypatch.setattr(other_tools, "COUNT", 2)
    network = zoo.load("resnet18")
    images = calibration_images(network, "gaussian", 0)
    assert images.shape == (2, *network.input.shape)
    model = with_onnxruntime.quantize(network.module, images)
    assert model(images).shape == (2, 10)


@pytest.mark.parametrize(("options", "reach"), [({}, 0.1), ({"per_channel_activations": False}, 1.0)])
def test_nncf_ranges_in_front_of_depthwise_convolutions(options, reach):
    """A channel that calibration hardly excites is cut off at its own range, unless it shares one with the others."""
    pytest.importorskip("nncf")
    with_nncf = import_module("experiments.tools.with_nncf")
    depthwise = nn.Sequential(nn.Conv2d(2, 2, 1, groups=2, bias=False), nn.ReLU()).eval()
    nn.init.ones_(depthwise[0].weight)
    quiet = torch.tensor([1.0, 0.1]).view(1, 2, 1, 1) * torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    quantized = with_nncf.quantize(depthwise, quiet.repeat(4, 1, 1, 1), **options)
    assert quantized(torch.ones(1, 2, 8, 8))[0, :, 0, 0].tolist() == pytest.approx([1.0, reach], rel=0.05)


def test_pt2e_rounds_to_eight_bits(no_norm, images):
    pytest.importorskip("torchao")
    quantized = import_module("experiments.tools.with_pt2e").quantize(no_norm, images)
    expected = no_norm(images)
    error = (quantized(images[:3]) - expected[:3]).abs().max()  # any number of images, not those of calibration alone
    assert 0 < error < 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("tools=tvm", "there is no tool 'tvm'"),
        ("networks=imagenet/resnet18", "of the bundled zoo"),
        ("seeds=a", "invalid literal"),
        ("rum=a", "unknown argument"),
    ],
)
def test_bad_arguments(monkeypatch, tmp_path, argument, said):
    monkeypatch.setattr(sys, "argv", ["other_tools", argument, f"results={tmp_path}"])
    with pytest.raises(SystemExit, match=said):
        other_tools.main()
