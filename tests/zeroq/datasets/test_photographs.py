"""ImageNet and COCO on disk: served as published checkpoints expect, and every damage named before any work."""

import json
import shutil
from pathlib import Path

import numpy
import pytest
from PIL import Image
from timm.data import ImageNetInfo
from torch import nn

from experiments.core import sources, stages
from experiments.core.config import DataConfig
from experiments.core.sources import load_dataset, number_of_classes
from tests.paths import DATA
from zeroq import ZeroQError
from zeroq.datasets.cifar10 import CIFAR10
from zeroq.datasets.coco import COCO
from zeroq.datasets.imagenet import ImageNet
from zeroq.datasets.photographs import check_readable
from zeroq.networks import retinanet, zoo
from zeroq.networks.imagenet import input_specification
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

SPECIFICATION = input_specification((224, 224))
SMALL = InputSpecification((3, 32, 32), (0.5, 0.5, 0.5), (1, 1, 1))
WORDNET_IDS = ImageNetInfo().label_names()


def save(path: Path, shade: int, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.full((*size[::-1], 3), shade, dtype=numpy.uint8)).save(path, "JPEG")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory) -> Path:
    """One grey photograph in each of the 1,000 folders."""
    root = tmp_path_factory.mktemp("imagenet")
    for index, wordnet_id in enumerate(WORDNET_IDS):
        save(root / "val" / wordnet_id / "image.JPEG", index % 256)
    return root


def test_imagenet_labels_follow_the_sorted_wordnet_ids(imagenet):
    dataset = ImageNet(imagenet, SPECIFICATION)
    assert len(dataset) == 1000
    images, labels = next(iter(dataset.batches(100)))
    assert images.shape == (100, 3, 224, 224)
    assert labels.tolist() == list(range(100))
    expected = [(80 / 255 - m) / s for m, s in zip(SPECIFICATION.mean, SPECIFICATION.std, strict=True)]
    assert images[80].mean((1, 2)).tolist() == pytest.approx(expected, abs=0.02)
    assert dataset.sample(2, seed=0).shape == (2, 3, 224, 224)


def test_imagenet_preprocessing_comes_from_the_network(imagenet):
    images, _ = next(iter(ImageNet(imagenet, input_specification((299, 299))).batches(1)))
    assert images.shape == (1, 3, 299, 299)


def test_imagenet_folders_that_are_not(imagenet, tmp_path):
    with pytest.raises(ZeroQError, match=r"train is no folder; data\.root=… is the folder that holds train/"):
        ImageNet(imagenet, SPECIFICATION, train=True)
    with pytest.raises(ZeroQError, match=r"val/val is no folder; .*val holds the class folders itself"):
        ImageNet(imagenet / "val", SPECIFICATION)
    (tmp_path / "val").mkdir()
    with pytest.raises(ZeroQError, match="has 0 class folders"):
        ImageNet(tmp_path, SPECIFICATION)
    for wordnet_id in WORDNET_IDS[:-1]:
        (tmp_path / "val" / wordnet_id).symlink_to(imagenet / "val" / wordnet_id)
    missing = rf"999 class folders, .* 1000 WordNet ids \(1 missing, first {WORDNET_IDS[-1]}\)"
    with pytest.raises(ZeroQError, match=missing):
        ImageNet(tmp_path, SPECIFICATION)
    save(tmp_path / "val" / "cat" / "image.JPEG", 0)  # 1,000 folders, but in no known order
    with pytest.raises(ZeroQError, match=r"1 missing.*1 unknown, first cat"):
        ImageNet(tmp_path, SPECIFICATION)
    shutil.rmtree(tmp_path / "val" / "cat")
    (tmp_path / "val" / WORDNET_IDS[-1]).mkdir()
    with pytest.raises(ZeroQError, match=f"a class folder of .* is empty: .*{WORDNET_IDS[-1]}"):
        ImageNet(tmp_path, SPECIFICATION)


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


def test_a_photograph_that_is_damaged_later_is_named_in_one_sentence(imagenet, unreadable):
    with pytest.raises(ZeroQError) as raised:
        list(ImageNet(imagenet, SPECIFICATION).batches())
    assert str(raised.value).startswith(str(unreadable))
    assert "\n" not in str(raised.value)


def test_the_command_line_reads_every_photograph_before_it_works(imagenet, unreadable, command, capsys, monkeypatch):
    network = PretrainedNetwork(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 1000)), SMALL)
    monkeypatch.setitem(sources.NETWORKS, "torchvision", lambda architecture, checkpoint: network)
    monkeypatch.setattr(stages.Run, "calibration_images", lambda run: pytest.fail("work was begun"))
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
    with pytest.raises(ZeroQError, match=r"takes images of 1 channels, photographs have 3"):
        ImageNet(imagenet, InputSpecification(shape=(1, 32, 32), mean=(0.5,), std=(0.5,)))
    specification = InputSpecification((1, 32, 32), (0,), (1,))
    grey = PretrainedNetwork(nn.Sequential(nn.Flatten(), nn.Linear(1024, 9)), specification)
    with pytest.raises(ZeroQError, match="is for networks of 10 outputs, this one has 9: choose the data"):
        load_dataset(DataConfig("fashion-mnist", DATA), grey)
    with pytest.raises(ZeroQError, match=r"takes images of 1 channels, cifar10 has 3"):
        CIFAR10(Path("/nowhere"), specification)  # before any download
    detector = PretrainedNetwork(zoo.build("retinanet").eval(), retinanet.SCENES, retinanet.bundled_detector)
    assert load_dataset(DataConfig("fashion-scenes", DATA), detector).classes == number_of_classes(detector) == 11


@pytest.fixture
def coco(tmp_path) -> Path:
    """Three photographs, listed in another order than their ids."""
    images = [{"id": number, "file_name": f"{number:012}.jpg", "width": 40, "height": 30} for number in (9, 2, 5)]
    boxes = [{"id": 1, "image_id": 9, "category_id": 3, "bbox": [1, 2, 10, 10], "area": 100, "iscrowd": 0}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 3, "name": "car"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    for image in images:
        save(tmp_path / "val2017" / image["file_name"], 10 * image["id"])
    return tmp_path


def test_coco(coco):
    dataset = COCO(coco, SPECIFICATION)
    batches = list(dataset.batches(2))
    assert [identifiers for _, identifiers in batches] == [[2, 5], [9]]
    images = [image for batch, _ in batches for image in batch]
    assert {image.shape for image in images} == {(3, 30, 40)}
    assert [image.mean().item() for image in images] == pytest.approx([20 / 255, 50 / 255, 90 / 255], abs=0.01)
    assert dataset.annotations()["annotations"][0]["category_id"] == 3
    assert dataset.sample(2, seed=0).shape == (2, 3, 224, 224)


def test_coco_is_for_networks_of_its_91_classes(coco):
    detector = PretrainedNetwork(zoo.build("retinanet").eval(), retinanet.SCENES, retinanet.bundled_detector)
    with pytest.raises(ZeroQError, match="coco is for networks of 91 outputs, this one has 11"):
        load_dataset(DataConfig("coco", coco), detector)


def test_coco_that_is_not_whole(coco):
    with pytest.raises(ZeroQError, match=r"train2017 is missing; unpack train2017\.zip"):
        COCO(coco, SPECIFICATION, train=True)
    (coco / "val2017" / f"{5:012}.jpg").write_bytes(b"no photograph")
    with pytest.raises(ZeroQError, match=r"000000000005\.jpg is no readable photograph"):
        check_readable(COCO(coco, SPECIFICATION).files)
    with pytest.raises(ZeroQError, match=r"val2017 is missing; .*val2017 holds the photographs itself"):
        COCO(coco / "val2017", SPECIFICATION)
    for path in (coco / "val2017").iterdir():
        path.unlink()
    with pytest.raises(ZeroQError, match=r"lacks 3 of the 3 photographs .* first 000000000002\.jpg"):
        COCO(coco, SPECIFICATION)
    annotations = coco / "annotations" / "instances_val2017.json"
    annotations.write_text('{"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [], "categories": []}')
    with pytest.raises(ZeroQError, match="lists no annotations and no categories"):
        COCO(coco, SPECIFICATION)
    box = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 10], "area": 100, "iscrowd": 0}
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [box], "categories": [{"id": 3}]}
    annotations.write_text(json.dumps(content))
    with pytest.raises(ZeroQError, match="has boxes for none of the images"):
        COCO(coco, SPECIFICATION)
    for strange in ({}, content | {"images": [{"id": 1}]}, content | {"annotations": [1]}):
        annotations.write_text(json.dumps(strange))
        with pytest.raises(ZeroQError, match="no COCO annotation file"):
            COCO(coco, SPECIFICATION)
    annotations.unlink()
    with pytest.raises(ZeroQError, match=r"instances_val2017\.json is missing"):
        COCO(coco, SPECIFICATION)
