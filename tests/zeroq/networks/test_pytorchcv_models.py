"""Every classifier of pytorchcv for ImageNet or CIFAR-10, by its name."""

import json

import pytest
import torch
from pytorchcv.model_provider import get_model

from tests.command_line import QUICK
from zeroq import ZeroQError
from zeroq.datasets.cifar10 import CIFAR10
from zeroq.networks.pytorchcv_models import load, published_input, published_weights


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A state dict of resnet20_cifar10."""
    path = tmp_path_factory.mktemp("checkpoints") / "weights.pth"
    torch.manual_seed(0)
    torch.save(get_model("resnet20_cifar10").state_dict(), path)
    return path


def test_preprocessing_of_cifar_10_crops_nothing(checkpoint):
    network = load("resnet20_cifar10", checkpoint)
    assert network.input.shape == (3, 32, 32)
    assert network.input.resize is None
    assert (network.input.mean, network.input.std) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    state = torch.load(checkpoint)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.module.state_dict().items())
    assert not network.module.training


@pytest.mark.parametrize(
    ("name", "size", "resize"),
    [
        ("efficientnet_b0", 224, 256),
        ("efficientnet_b2b", 260, 293),  # with a share of its own, 0.89
        ("resneta50b", 224, 256),  # in pytorchcv's table without a share
        ("sknet50", 224, 256),  # not in its table
        ("inceptionv4", 299, 342),
    ],
)
def test_preprocessing_of_imagenet_is_pytorchcv_s_own(name, size, resize):
    specification = published_input(name)
    assert (specification.shape, specification.resize) == ((3, size, size), resize)
    assert specification.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(("name", "size"), [("resnet18", 224), ("sqnxt23_w2", 224), ("inceptionv3", 299)])
def test_preprocessing_of_the_paper_s_networks_is_the_published_code_s(name, size):
    assert published_input(name).resize == int(size / 0.875)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet20_cifar100", "resnet20_svhn", "resnet18_cub", "pspnet_resnetd101b_voc", "centernet_resnet18_coco"),
        *("bisenet_resnet18_celebamaskhq", "quartznet15x5_en", "raft_small", "propainter", "prnet"),
    ],
)
def test_networks_of_other_data_are_refused(name):
    with pytest.raises(ZeroQError, match=f"{name} is no classifier for ImageNet or CIFAR-10; quantize it from Python"):
        load(name)


def test_unknown_names_get_similar_ones():
    with pytest.raises(ZeroQError, match=r"no 'resnet21_cifar10'; similar names: .*resnet20_cifar10"):
        load("resnet21_cifar10")
    with pytest.raises(ZeroQError, match=r"similar names: none"):
        load("?")


@pytest.mark.parametrize("name", ["efficientnet_b2", "sknet50", "irevnet301", "resnext20_32x4d_cifar10"])
def test_a_name_without_weights_wants_a_checkpoint(name):
    with pytest.raises(ZeroQError, match=rf"no weights of {name}; give yours, checkpoint="):
        load(name)


def test_weights_of_cifar_10_are_published():
    address = "https://github.com/osmr/imgclsmob/releases/download/v0.0.163/resnet20_cifar10-0597-9b0024ac.pth.zip"
    assert published_weights("resnet20_cifar10") == address


def test_other_numbers_of_classes(tmp_path, checkpoint):
    torch.save(get_model("nin_cifar10", num_classes=7).state_dict(), tmp_path / "weights.pth")
    network = load("nin_cifar10", tmp_path / "weights.pth", classes=7)
    assert network.module(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    with pytest.raises(ZeroQError, match=r"pytorchcv has no weights for 7 classes; give yours"):
        load("nin_cifar10", classes=7)
    with pytest.raises(ZeroQError, match=r"builds no resnet20_cifar10 with 7 classes; quantize yours from Python"):
        load("resnet20_cifar10", checkpoint, classes=7)


def test_a_run_scores_on_cifar_10(checkpoint, command, outputs, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 3, 32, 32), generator=generator, dtype=torch.uint8)
    monkeypatch.setattr(CIFAR10, "read", staticmethod(lambda root, *, train: (images, torch.arange(20) % 10)))
    words = ("model=pytorchcv", "model.name=resnet20_cifar10", f"model.checkpoint={checkpoint}", "data=cifar10")
    assert command(*words, "bits=mp4a8", *QUICK) == 0
    (record,) = (json.loads(path.read_text()) for path in outputs.glob("runs/pytorchcv,*/record.json"))
    assert (record["model"], record["dataset"]) == ("pytorchcv/resnet20_cifar10", "cifar10")
    assert record["size_mib"] < 0.2 * record["fp32_size_mib"]
