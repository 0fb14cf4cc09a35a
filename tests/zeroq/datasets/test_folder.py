"""Classes of one's own: labels follow the sorted names, preparation the network or what the settings say."""

import json
from pathlib import Path

import pytest
from torch import nn

from experiments.core.config import DataConfig
from experiments.core.sources import load_dataset
from tests.zeroq.datasets.photographs import save
from zeroq import ZeroQError
from zeroq.datasets.folder import Folder
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

GREY = InputSpecification((1, 56, 56), (0.5,), (0.25,), resize=64)


@pytest.fixture
def classes(tmp_path) -> Path:
    """Ten classes of one photograph each, the later the brighter."""
    for index in range(10):
        save(tmp_path / f"class {index}" / "picture.jpg", 20 * index)
    return tmp_path


def test_labels_are_the_sorted_names(classes):
    dataset = Folder(classes, GREY)
    ((images, labels),) = dataset.batches()
    assert images.shape == (10, 1, 56, 56)
    assert labels.tolist() == list(range(10))
    assert images.mean((1, 2, 3)).tolist() == pytest.approx([(20 * i / 255 - 0.5) / 0.25 for i in range(10)], abs=0.05)
    assert dataset.classes == len(dataset) == len(dataset.files) == 10
    before = dataset.digest()
    save(classes / "class 3" / "another.png", 7)
    assert Folder(classes, GREY).digest() != before


def test_splits_are_folders(classes, tmp_path_factory):
    root = tmp_path_factory.mktemp("splits")
    with pytest.raises(ZeroQError, match="train is no folder; root is the folder that holds train/"):
        Folder(classes, GREY, train=True)
    (root / "val").symlink_to(classes)
    (root / "train").symlink_to(classes)
    assert Folder(root, GREY).classes == Folder(root, GREY, train=True).classes == 10
    with pytest.raises(ZeroQError, match="holds no folders; each class is a folder"):
        Folder(classes / "class 1", GREY)
    (classes / "class 99").mkdir()
    with pytest.raises(ZeroQError, match=r"a class folder of .* is empty"):
        Folder(classes, GREY)


def test_a_network_of_other_classes_is_refused(classes):
    network = PretrainedNetwork(nn.Sequential(nn.Flatten(), nn.Linear(56 * 56, 12)), GREY)
    with pytest.raises(ZeroQError, match="folder is for networks of 10 outputs, this one has 12"):
        load_dataset(DataConfig("folder", classes), network)


def test_the_input_is_what_the_settings_say():
    def prepared(own=GREY, **words) -> InputSpecification:
        return DataConfig("folder", Path("."), **words).prepared(own)

    assert prepared() == GREY
    assert prepared(size=28) == InputSpecification((1, 28, 28), (0.5,), (0.25,), resize=32)
    assert prepared(mean=[0.1], std=[0.2]) == InputSpecification((1, 56, 56), (0.1,), (0.2,), resize=64)
    for words, sentence in {
        "data.mean is a number for each of the 1 channels": {"mean": [0.1, 0.2]},
        "data.std is a number above 0": {"std": [0.0]},
        "data.size is a number of pixels": {"size": 0},
    }.items():
        with pytest.raises(ZeroQError, match=words):
            prepared(**sentence)


def test_a_run_scores_it(classes, command, outputs, capsys):
    words = ("model=fashion/resnet18", "method=naive", "data=folder", f"data.root={classes}", "tracker=disabled")
    assert command(*words, "data.mean=[0.3]", "data.std=[0.2]") == 0
    (path,) = (outputs / "runs").glob("*/record.json")
    record = json.loads(path.read_text())
    assert (record["dataset"], record["images"], record["metric"]) == ("folder", 10, "top1")
    assert record["settings"] == {"data": "folder", "data.mean": "[0.3]", "data.std": "[0.2]"}
    assert command(*words, "data.mean=[0.3]", "data.std=[0.2]") == 0
    assert "skipped" in capsys.readouterr().out
