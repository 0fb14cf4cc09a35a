"""COCO on disk, and what of it may be missing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.core.config import DataConfig
from experiments.core.sources import load_dataset
from tests.zeroq.datasets.photographs import SPECIFICATION, save
from zeroq import ZeroQError
from zeroq.datasets.coco import COCO
from zeroq.datasets.photographs import check_readable
from zeroq.networks import retinanet, zoo
from zeroq.networks.pretrained import PretrainedNetwork


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


def test_categories_are_numbers_that_the_detector_gives(coco):
    detector = PretrainedNetwork(zoo.build("retinanet").eval(), retinanet.SCENES, retinanet.bundled_detector)
    specification = replace(detector.input, shape=(1, 128, 128))
    assert load_dataset(DataConfig("coco", coco), replace(detector, input=specification)).classes == 4
    path = coco / "annotations" / "instances_val2017.json"
    path.write_text(path.read_text().replace('"categories": [{"id": 3', '"categories": [{"id": 90'))
    with pytest.raises(ZeroQError, match="coco is for networks of 91 outputs, this one has 11"):
        load_dataset(DataConfig("coco", coco), detector)


def test_a_set_in_coco_s_format_needs_no_year(coco):
    (coco / "val2017").rename(coco / "val")
    (coco / "annotations" / "instances_val2017.json").rename(coco / "annotations" / "instances_val.json")
    assert len(COCO(coco, SPECIFICATION)) == 3


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
