"""The bundled zoo loads only the weights that its cards describe."""

import pytest

from zeroq.networks import zoo


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
