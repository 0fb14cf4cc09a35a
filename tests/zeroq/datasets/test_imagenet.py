"""ImageNet on disk, served as published checkpoints expect."""

import shutil

import pytest

from tests.zeroq.datasets.photographs import SPECIFICATION, WORDNET_IDS, save
from zeroq import ZeroQError
from zeroq.datasets.imagenet import ImageNet
from zeroq.networks.pytorchcv_models import input_specification


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
    with pytest.raises(ZeroQError, match=r"train is no folder; root is the folder that holds train/"):
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
