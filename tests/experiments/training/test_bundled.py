"""A network that was trained is stored with the card that loading it asks for."""

import json

import pytest
import torch

from experiments.training import bundled
from zeroq.errors import ZeroQError
from zeroq.networks import zoo


@pytest.mark.parametrize("start", ["mobilenetv2"], indirect=True)
def test_what_was_trained_loads(start, monkeypatch, tmp_path):
    trained = start()
    monkeypatch.setattr(bundled, "start", lambda *arguments: trained)
    folders = {"data": tmp_path, "checkpoints": tmp_path / "checkpoints", "weights": tmp_path}
    card = bundled.train("mobilenetv2", **folders)
    assert json.loads((tmp_path / "mobilenetv2.json").read_text()) == json.loads(json.dumps(card))
    loaded = zoo.load("mobilenetv2", weights=tmp_path).module.state_dict()
    for name, tensor in trained.network.state_dict().items():
        assert torch.equal(loaded[name], tensor), name

    other = start()
    monkeypatch.setattr(bundled, "start", lambda *arguments: other)
    other.recipe = bundled.classifiers.Recipe()
    with pytest.raises(ZeroQError, match=r"mobilenetv2.pt: .* another recipe; move it away"):
        bundled.train("mobilenetv2", **folders)
