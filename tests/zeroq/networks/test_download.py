"""Weights that cannot be downloaded: one sentence at once, with the file and its place."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torchvision import models

from zeroq import ZeroQError
from zeroq.networks import download, pytorchcv_models, retinanet, timm_models, torchvision_models
from zeroq.networks.download import downloading, reachable


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No host answers, nothing was downloaded before."""

    def no_connection(*arguments, **named):
        raise OSError("Name or service not known")

    monkeypatch.setattr(socket, "create_connection", no_connection)
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HOME", "TORCH_HOME", "HF_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("load", "architecture", "mend"),
    [
        (
            pytorchcv_models.load,
            "resnet18",
            r"unpack https://github\.com/.*/resnet18-.*zip into .*/\.torch/models by",
        ),
        (torchvision_models.load, "resnet18", r"put https://.*/resnet18-.*\.pth into .*/checkpoints by hand"),
        (timm_models.load, "resnet18", r"fetch them from https://huggingface\.co/timm/resnet18\.a1_in1k and give"),
        (retinanet.load, "retinanet_resnet50", r"put https://.*_coco-eeacb38b\.pth into .*/checkpoints by hand"),
    ],
)
def test_no_network_access(offline, load, architecture, mend, capfd):
    with pytest.raises(ZeroQError, match=f"could not be obtained .*connect to the internet once, or {mend}"):
        load(architecture)
    assert "retrying" not in capfd.readouterr().out


def test_a_file_put_by_hand_is_used(offline):
    url, file = "https://example.org/weights.pth.zip", offline / "weights.pth"
    with pytest.raises(ZeroQError, match=r"example\.org does not answer"), downloading("x", url=url, folder=offline):
        pytest.fail("nothing to load")
    file.write_bytes(b"weights")
    with downloading("x", url=url, folder=offline):
        pass


def test_a_proxy_is_trusted(offline, monkeypatch):
    assert not reachable("example.org")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    assert reachable("example.org")


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("digits", ["of the address", "of something else"])
@pytest.mark.parametrize(
    ("load", "architecture", "url"),
    [
        (torchvision_models.load, "resnet18", models.ResNet18_Weights.DEFAULT.url),
        (retinanet.load, "retinanet_resnet50", retinanet.WEIGHTS.url),
    ],
)
def test_a_file_in_torch_s_folder_runs_no_code(offline, monkeypatch, load, architecture, url, digits):
    path = offline / "hub" / "checkpoints" / Path(url).name
    path.parent.mkdir(parents=True)
    torch.save({"weights": Evil(offline / "taken")}, path)
    if digits == "of the address":
        monkeypatch.setattr(download, "sha256", lambda path: download.digits_of(url) + 56 * "0")
    sentence = "no checkpoint that can be read safely" if digits == "of the address" else "delete it"
    with pytest.raises(ZeroQError, match=sentence):
        load(architecture)
    assert not (offline / "taken").exists()


def test_a_file_of_pytorchcv_runs_no_code(offline, monkeypatch):
    path = offline / ".torch" / "models" / "resnet18-0896-77a56f15.pth"
    path.parent.mkdir(parents=True)
    torch.save({"weights": Evil(offline / "taken")}, path)
    monkeypatch.setattr(pytorchcv_models, "get_model_file", lambda name: str(path))
    monkeypatch.setattr(download, "reachable", lambda host: True)
    with pytest.raises(ZeroQError, match="no checkpoint that can be read safely"):
        pytorchcv_models.load("resnet18")
    assert not (offline / "taken").exists()


def test_the_published_file_is_loaded_as_torchvision_loads_it(offline, monkeypatch):
    """Of random weights, under the published name and digits."""
    weights = models.ResNet18_Weights.DEFAULT
    path = offline / "hub" / "checkpoints" / Path(weights.url).name
    path.parent.mkdir(parents=True)
    torch.save(models.resnet18().state_dict(), path)
    monkeypatch.setattr(download, "sha256", lambda path: download.digits_of(weights.url) + 56 * "0")
    found, expected = torchvision_models.load("resnet18").module, models.resnet18(weights=weights)
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in found.state_dict().items())
