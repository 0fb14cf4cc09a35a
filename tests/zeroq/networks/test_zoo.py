"""The bundled zoo loads only the weights that its cards describe."""

import json

import pytest
import torch
from pytorchcv.model_provider import get_model
from torch import nn

from tests.paths import DATA
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.evaluation.classification import evaluate
from zeroq.networks import zoo
from zeroq.networks.pytorchcv_models import CHECKPOINTS


def test_changed_weight_file_is_refused(tmp_path):
    for suffix in ("safetensors", "json"):
        (tmp_path / f"resnet18.{suffix}").write_bytes((zoo.WEIGHTS / f"resnet18.{suffix}").read_bytes())
    path = tmp_path / "resnet18.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(zoo.ZeroQError, match="sha256"):
        zoo.load("resnet18", weights=tmp_path)


def test_weights_of_another_topology_are_refused(monkeypatch):
    monkeypatch.setitem(zoo.CLASSIFIERS, "resnet18", zoo.Bundled(4, ()))
    with pytest.raises(zoo.ZeroQError, match="topology"):
        zoo.load("resnet18")


@pytest.mark.parametrize(
    ("architecture", "convolutions"),
    [
        *(("resnet18", 20), ("resnet50", 53), ("resnet152", 155), ("mobilenetv2", 54), ("shufflenet", 49)),
        *(("squeezenext", 111), ("inceptionv3", 94)),
    ],
)
def test_bundled_network_is_the_paper_s_but_narrower(architecture, convolutions):
    bundled, published = zoo.build(architecture).eval(), get_model(CHECKPOINTS[architecture])
    assert sum(isinstance(module, nn.Conv2d) for module in bundled.modules()) == convolutions
    assert list(bundled.state_dict()) == list(published.state_dict())
    maps = []
    bundled.features.final_pool.register_forward_pre_hook(lambda module, inputs: maps.append(inputs[0].shape[-2:]))
    with torch.no_grad():
        assert bundled(torch.randn(1, *zoo.input_specification(architecture).shape)).shape == (1, 10)
    assert maps == [(7, 7)]


def test_a_bundled_network_scores_what_its_card_says():
    network = zoo.load("resnet18")
    score = evaluate(network.module, FashionMNIST(DATA, network.input).batches())
    card = json.loads((zoo.WEIGHTS / "resnet18.json").read_text())
    assert (score.top1, score.top5) == pytest.approx((card["top1"], card["top5"]), abs=0.05)
