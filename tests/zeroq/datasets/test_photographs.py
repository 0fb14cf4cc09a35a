"""Photographs that cannot be read are named before any work, and so is a network that does not fit."""

from pathlib import Path

import numpy
import pytest
from PIL import Image
from torch import nn

from experiments.core import sources
from experiments.core.config import DataConfig
from experiments.core.sources import load_dataset, number_of_classes
from tests.paths import DATA
from tests.zeroq.datasets.photographs import SPECIFICATION, WORDNET_IDS
from zeroq import ZeroQError
from zeroq.datasets.cifar10 import CIFAR10
from zeroq.datasets.imagenet import ImageNet
from zeroq.datasets.photographs import check_readable
from zeroq.networks import retinanet, zoo
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

SMALL = InputSpecification((3, 32, 32), (0.5, 0.5, 0.5), (1, 1, 1))


@pytest.fixture(params=["text", "cut off", "damaged inside", "too many pixels"])
def unreadable(request, imagenet):
    """One of the photographs, unreadable for the time of a test."""
    path = imagenet / "val" / WORDNET_IDS[567] / "image.JPEG"
    whole = path.read_bytes()
    random = numpy.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (80, 60, 3), dtype=numpy.uint8)).save(path, "JPEG")
    noisy = path.read_bytes()
    middle, frame = len(noisy) // 2, noisy.index(b"\xff\xc0")
    damaged = {
        "text": b"no photograph",
        "cut off": noisy[:middle],
        "damaged inside": noisy[:middle] + b"\xff\xc4" + random.bytes(500) + noisy[middle:],  # the end is there
        "too many pixels": noisy[: frame + 5] + b"\xff\xff\xff\xff" + noisy[frame + 9 :],
    }
    path.write_bytes(damaged[request.param])
    yield path
    path.write_bytes(whole)


def test_an_unreadable_photograph_among_a_thousand_is_named(imagenet, unreadable):
    dataset, done = ImageNet(imagenet, SPECIFICATION), []
    with pytest.raises(ZeroQError, match=f"{WORDNET_IDS[567]}/image.JPEG is no readable photograph"):
        check_readable(dataset.files, lambda *progress: done.append(progress))
    assert done[-1] == (567, 1000)


@pytest.mark.parametrize("unreadable", ["damaged inside", "text"], indirect=True)
def test_a_photograph_that_is_damaged_later_is_named_in_one_sentence(imagenet, unreadable):
    with pytest.raises(ZeroQError) as raised:
        list(ImageNet(imagenet, SPECIFICATION).batches())
    assert str(raised.value).startswith(str(unreadable))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("unreadable", ["damaged inside"], indirect=True)
def test_the_command_line_reads_every_photograph_before_it_works(imagenet, unreadable, command, capsys, monkeypatch):
    network = PretrainedNetwork(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 1000)), SMALL)
    monkeypatch.setitem(sources.NETWORKS, "torchvision", lambda architecture, checkpoint: network)
    monkeypatch.setattr("zeroq.pipeline.calibration_images", lambda *arguments: pytest.fail("work was begun"))
    shared = ("model=torchvision", "model.name=small", f"data.root={imagenet}", "tracker=disabled")
    assert command(*shared, "method=naive") == 1
    assert f"{WORDNET_IDS[567]}/image.JPEG is no readable photograph" in capsys.readouterr().out.replace("\n", "")
    monkeypatch.setitem(sources.NETWORKS, "torchvision", lambda *arguments: pytest.fail("weights before data"))
    assert command(*shared, "method=real") == 1
    assert "train is no folder" in capsys.readouterr().out


def test_of_the_training_photographs_only_those_drawn_are_read(imagenet, unreadable, tmp_path):
    (tmp_path / "train").mkdir()
    for wordnet_id in WORDNET_IDS:
        (tmp_path / "train" / wordnet_id).symlink_to(imagenet / "val" / wordnet_id)
    dataset = ImageNet(tmp_path, SPECIFICATION, train=True)
    assert dataset.sample(2, seed=0).shape == (2, 3, 224, 224)
    with pytest.raises(ZeroQError, match=f"{WORDNET_IDS[567]}/image.JPEG is no readable photograph"):
        dataset.sample(1000, seed=0)


def test_a_network_for_other_channels_or_classes_is_refused(imagenet):
    with pytest.raises(ZeroQError, match=r"takes images of 2 channels, photographs have 3"):
        ImageNet(imagenet, InputSpecification(shape=(2, 32, 32), mean=(0.5,) * 2, std=(0.5,) * 2))
    specification = InputSpecification((1, 32, 32), (0,), (1,))
    grey = PretrainedNetwork(nn.Sequential(nn.Flatten(), nn.Linear(1024, 9)), specification)
    with pytest.raises(ZeroQError, match="is for networks of 10 outputs, this one has 9: choose the data"):
        load_dataset(DataConfig("fashion-mnist", DATA), grey)
    with pytest.raises(ZeroQError, match=r"takes images of 1 channels, cifar10 has 3"):
        CIFAR10(Path("/nowhere"), specification)  # before any download
    detector = PretrainedNetwork(zoo.build("retinanet").eval(), retinanet.SCENES, retinanet.bundled_detector)
    assert load_dataset(DataConfig("fashion-scenes", DATA), detector).classes == number_of_classes(detector) == 11
