"""Weights that cannot be downloaded: one sentence at once, with the file and its place."""

import socket

import pytest

from zeroq import ZeroQError
from zeroq.networks import pytorchcv_models, retinanet, timm_models, torchvision_models
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
