"""Fashion scenes: Fashion-MNIST items at random scale and place over clutter, with boxes, made on the fly."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image
from torchvision.datasets import FashionMNIST as Split

from zeroq.datasets.digest import digest_of_arrays
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.images import check_count
from zeroq.networks.pretrained import InputSpecification
from zeroq.parallel import shard

SIZE = 128  # height and width of a scene in pixels
ITEMS = (1, 5)
SIDES = (32, 112)  # of an item's square picture, in pixels
OVERLAP = 0.25  # largest share of the smaller of two boxes that both cover
PLACES = 20  # tries to place an item without more overlap
FRAGMENTS = (4, 12)
FRAGMENT_SIDES = (5, 16)
TEST_SCENES = 1000
TRAINING_SCENES = 60_000


@dataclass(frozen=True)
class Scene:
    """``pixels`` uint8 [128, 128], ``boxes`` float64 [items, 4] as (left, top, right, bottom), ``labels`` [items]."""

    pixels: numpy.ndarray
    boxes: numpy.ndarray
    labels: numpy.ndarray


class FashionScenes:
    """Scenes of one to five items; scene i of a seed is always the same.

    Training scenes hold items and clutter of the training split only, test scenes of the test split only, and no
    layout occurs in both. Category ids are Fashion-MNIST's labels plus one, as detectors keep 0 for the background.
    """

    name = "fashion-scenes"
    task = "detection"
    classes = 1 + FashionMNIST.classes  # with the background
    files = ()

    def __init__(
        self,
        root: Path,
        specification: InputSpecification,
        *,
        train: bool = False,
        count: int | None = None,
        seed: int = 0,
    ):
        items = FashionMNIST(root, specification, train=train)
        self.items, self.item_labels = items.images[:, 0].numpy(), items.labels.numpy()
        self.specification, self.train, self.seed = specification, train, seed
        self.count = count or (TRAINING_SCENES if train else TEST_SCENES)

    def __len__(self) -> int:
        return self.count

    def digest(self) -> str:
        """A hash of the items; scenes follow from them and from the seed."""
        return digest_of_arrays(self.items, self.item_labels)

    content_digest = digest

    def scene(self, index: int) -> Scene:
        """The scene of this number."""
        return compose(self.items, self.item_labels, numpy.random.default_rng((self.seed, self.train, index)))

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """A scene as torchvision's detectors take it: float [1, 128, 128] in [0, 1], boxes and category ids."""
        scene = self.scene(index)
        target = {"boxes": torch.from_numpy(scene.boxes).float(), "labels": torch.from_numpy(scene.labels) + 1}
        return torch.from_numpy(scene.pixels).float().div(255).unsqueeze(0), target

    def batches(self, batch_size: int = 50) -> Iterator[tuple[list[torch.Tensor], list[int]]]:
        """Every scene once, in order: (images float [1, 128, 128] in [0, 1], their ids in ``annotations``).

        In a process group, a process's share of the batches.
        """
        for indices in shard(torch.arange(len(self)).split(batch_size)):
            yield [self[index][0] for index in indices.tolist()], (indices + 1).tolist()

    def sample(self, count: int, *, seed: int) -> torch.Tensor:
        """``count`` different scenes drawn at random, normalised: float [count, C, 128, 128]."""
        check_count(count)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count]
        images = torch.stack([self[index][0] for index in order.tolist()])
        mean = torch.tensor(self.specification.mean).view(-1, 1, 1)
        return (images - mean) / torch.tensor(self.specification.std).view(-1, 1, 1)

    def annotations(self) -> dict[str, Any]:
        """Every scene's boxes in COCO's format."""
        images: list[dict[str, Any]] = []
        boxes: list[dict[str, Any]] = []
        for index in range(len(self)):
            scene = self.scene(index)
            images.append({"id": index + 1, "file_name": f"{index + 1:06}.png", "width": SIZE, "height": SIZE})
            for (left, top, right, bottom), label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
                width, height = right - left, bottom - top
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": index + 1,
                        "category_id": label + 1,
                        "bbox": [left, top, width, height],
                        "area": width * height,
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(Split.classes)]
        return {"images": images, "annotations": boxes, "categories": categories}


def compose(items: numpy.ndarray, labels: numpy.ndarray, random: numpy.random.Generator) -> Scene:
    """One scene of pictures from ``items`` uint8 [N, 28, 28], none of which the clutter shows as a whole."""
    canvas = _background(random)
    for _ in range(random.integers(*FRAGMENTS, endpoint=True)):
        _paste_fragment(canvas, items[random.integers(len(items))], random)
    boxes: list[tuple[int, int, int, int]] = []
    found: list[int] = []
    for _ in range(random.integers(*ITEMS, endpoint=True)):
        index = random.integers(len(items))
        side = round(float(numpy.exp(random.uniform(*numpy.log(SIDES)))))
        picture, mask = _enlarged(items[index], side)
        rows, columns = numpy.flatnonzero(mask.any(1)), numpy.flatnonzero(mask.any(0))
        tight = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        for top, left in random.integers(SIZE - side, size=(PLACES, 2), endpoint=True).tolist():
            box = tuple(int(edge) + offset for edge, offset in zip(tight, (left, top, left, top), strict=True))
            if all(_overlap(box, other) <= OVERLAP for other in boxes):
                region = canvas[top : top + side, left : left + side]
                region[mask] = picture[mask]
                boxes.append(box)
                found.append(labels[index])
                break
    return Scene(canvas, numpy.array(boxes, dtype=float), numpy.array(found))


def _background(random: numpy.random.Generator) -> numpy.ndarray:
    """Smooth shades with a little noise."""
    shades = Image.fromarray(random.integers(0, 120, (6, 6), dtype=numpy.uint8)).resize(
        (SIZE, SIZE), Image.Resampling.BICUBIC
    )
    noise = random.normal(0, 6, (SIZE, SIZE))
    return (numpy.asarray(shades) + noise).clip(0, 255).astype(numpy.uint8)


def _paste_fragment(canvas: numpy.ndarray, item: numpy.ndarray, random: numpy.random.Generator) -> None:
    """A small piece of an item, too small to tell which."""
    side = int(random.integers(*FRAGMENT_SIDES, endpoint=True))
    row, column = random.integers(4, 20, size=2)
    piece = Image.fromarray(item[row : row + 8, column : column + 8]).resize((side, side), Image.Resampling.BILINEAR)
    top, left = random.integers(SIZE - side, size=2, endpoint=True)
    canvas[top : top + side, left : left + side] = piece


def _enlarged(item: numpy.ndarray, side: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """An item's picture uint8 [side, side] and the mask bool of the item in it, without the empty background."""
    drawn = item > 0
    # What lies between the first and the last drawn pixel of a row is item, even where it is black.
    silhouette = numpy.logical_or.accumulate(drawn, 1) & numpy.logical_or.accumulate(drawn[:, ::-1], 1)[:, ::-1]
    picture = Image.fromarray(item).resize((side, side), Image.Resampling.BILINEAR)
    mask = Image.fromarray(silhouette.astype(numpy.uint8) * 255).resize((side, side), Image.Resampling.BILINEAR)
    return numpy.asarray(picture), numpy.asarray(mask) > 127


def _overlap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The share of the smaller of two boxes that both cover."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
