"""Fashion scenes: reproducible, from one split only, with boxes that fit their items."""

import hashlib
import json

import numpy
import pytest
import torch
from torchvision import datasets

from tests.paths import DATA
from zeroq.datasets.fashion_scenes import ITEMS, OVERLAP, SIZE, FashionScenes, compose
from zeroq.networks.zoo import input_specification

SPECIFICATION = input_specification("retinanet")


@pytest.fixture(scope="module")
def scenes() -> FashionScenes:
    return FashionScenes(DATA, SPECIFICATION, count=200)


def test_a_seed_gives_the_same_scenes(scenes):
    again, other = FashionScenes(DATA, SPECIFICATION), FashionScenes(DATA, SPECIFICATION, seed=1)
    assert (len(scenes), len(again)) == (200, 1000)
    assert numpy.array_equal(scenes.scene(7).pixels, again.scene(7).pixels)
    assert not numpy.array_equal(scenes.scene(7).pixels, other.scene(7).pixels)
    assert not numpy.array_equal(scenes.scene(7).pixels, scenes.scene(8).pixels)


def test_items_come_from_one_split(scenes):
    training = FashionScenes(DATA, SPECIFICATION, train=True)
    for dataset, train in ((scenes, False), (training, True)):
        split = datasets.FashionMNIST(str(DATA), train=train)
        assert numpy.array_equal(dataset.items, split.data.numpy())
        assert numpy.array_equal(dataset.item_labels, split.targets.numpy())


def test_layouts_are_not_shared_between_splits(scenes):
    training = FashionScenes(DATA, SPECIFICATION, train=True)
    equal = [(scenes.scene(index).pixels == training.scene(index).pixels).mean() for index in range(20)]
    assert max(equal) < 0.2  # of the pixels


def test_scenes_stay_what_they_are(scenes):
    # Committed scores are those of these very scenes.
    digest = hashlib.sha256(b"".join(scenes.scene(index).pixels.tobytes() for index in range(3)))
    assert digest.hexdigest()[:12] == "2c26766c7d33"


def test_one_to_five_items_inside_the_scene(scenes):
    counts = set()
    for index in range(len(scenes)):
        scene = scenes.scene(index)
        assert scene.pixels.shape == (SIZE, SIZE)
        counts.add(len(scene.boxes))
        assert len(scene.boxes) == len(scene.labels)
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= SIZE).all()
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()
        for one in range(len(scene.boxes)):
            for other in range(one):
                low = numpy.maximum(scene.boxes[one, :2], scene.boxes[other, :2])
                high = numpy.minimum(scene.boxes[one, 2:], scene.boxes[other, 2:])
                shared = (high - low).clip(0).prod()
                areas = [(scene.boxes[i, 2:] - scene.boxes[i, :2]).prod() for i in (one, other)]
                assert shared / min(areas) <= OVERLAP
    assert counts == set(range(ITEMS[0], ITEMS[1] + 1))


def test_boxes_are_tight():
    # A white 10 × 14 block in a black picture; neither background nor fragments reach 200.
    items = numpy.zeros((1, 28, 28), dtype=numpy.uint8)
    items[0, 4:18, 6:16] = 255
    scene = compose(items, numpy.array([3]), numpy.random.default_rng(0))
    assert set(scene.labels.tolist()) == {3}
    for left, top, right, bottom in scene.boxes.astype(int).tolist():
        assert (bottom - top) / (right - left) == pytest.approx(1.4, rel=0.1)
        inside = scene.pixels[top:bottom, left:right]
        assert (inside > 120).mean() > 0.8


def test_annotations_are_coco_s(scenes):
    annotations = json.loads(json.dumps(scenes.annotations()))
    assert [image["id"] for image in annotations["images"]] == list(range(1, 201))
    identifiers = [box["id"] for box in annotations["annotations"]]
    assert identifiers == list(range(1, len(identifiers) + 1))
    assert {category["id"] for category in annotations["categories"]} == set(range(1, 11))
    first = [box for box in annotations["annotations"] if box["image_id"] == 1]
    image, target = scenes[0]
    assert image.shape == (1, SIZE, SIZE)
    assert image.max() <= 1
    corners = [[x, y, x + width, y + height] for x, y, width, height in (box["bbox"] for box in first)]
    assert target["boxes"].tolist() == corners
    assert target["labels"].tolist() == [box["category_id"] for box in first]


def test_batches_and_sample(scenes):
    batches = list(scenes.batches(150))
    assert [len(images) for images, _ in batches] == [150, 50]
    assert [identifier for _, identifiers in batches for identifier in identifiers] == list(range(1, 201))
    sample = scenes.sample(64, seed=0)
    assert sample.shape == (64, 1, SIZE, SIZE)
    assert torch.equal(sample, scenes.sample(64, seed=0))
    assert abs(sample.mean()) < 0.2
    assert abs(sample.std() - 1) < 0.2
