"""Photographs with boxes in COCO's format: COCO 2017 in the layout of the published archives, or any other set."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import to_dtype, to_image

from zeroq.datasets.digest import digest_of_contents, digest_of_files
from zeroq.datasets.photographs import preprocessing, read_photograph, served
from zeroq.errors import ZeroQError
from zeroq.images import check_count
from zeroq.networks.pretrained import InputSpecification


class COCO(Dataset[tuple[torch.Tensor, int]]):
    """``root/val2017/*.jpg`` with ``root/annotations/instances_val2017.json`` (or train2017).

    Another set than COCO lies in ``val`` with ``instances_val.json`` (or train), and its categories have the numbers
    that the detector gives. ``files`` are the photographs. Raises ZeroQError for folders or annotations that are
    missing, and for annotations whose photographs are not there.
    """

    name = "coco"
    task = "detection"
    classes: int | None = None  # until it is read: one more than the largest number of a category, as 0 is background

    def __init__(self, root: Path, specification: InputSpecification, *, train: bool = False):
        check_layout(root, train=train)
        folder, path = split_paths(root, train=train)
        self._path = path
        try:
            self._annotations = json.loads(path.read_text())
            self._images = sorted(self._annotations["images"], key=lambda image: image["id"])
            self.files = [folder / image["file_name"] for image in self._images]
            annotated = {annotation["image_id"] for annotation in self._annotations["annotations"]}
            self.classes = 1 + max((each["id"] for each in self._annotations["categories"]), default=0)
            empty = [part for part in ("images", "annotations", "categories") if not self._annotations[part]]
        except (ValueError, KeyError, TypeError) as error:
            raise ZeroQError(f"{path} is no COCO annotation file ({error!r}); unpack it again") from error
        if empty:
            raise ZeroQError(f"{path} lists no {' and no '.join(empty)}; unpack it again")
        if annotated.isdisjoint(image["id"] for image in self._images):
            raise ZeroQError(f"{path} has boxes for none of the images that it lists; unpack it again")
        if missing := [path.name for path in self.files if not path.is_file()]:
            raise ZeroQError(
                f"{folder} lacks {len(missing)} of the {len(self.files)} photographs that {path} lists, first "
                f"{missing[0]}; unpack {folder.name}.zip there"
            )
        self._preprocessing = preprocessing(specification)

    def digest(self) -> str:
        """A hash of the annotations' and photographs' names, sizes and times of change."""
        return digest_of_files([self._path, *self.files])

    def content_digest(self) -> str:
        """A hash of the annotations and photographs, all of which are read."""
        return digest_of_contents([self._path, *self.files])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """A photograph at its own size, float [3, H, W] in [0, 1], and its id."""
        image = to_dtype(to_image(read_photograph(self.files[index])), torch.float32, scale=True)
        return image, self._images[index]["id"]

    def annotations(self) -> dict[str, Any]:
        """The content of the annotation file."""
        return self._annotations

    def batches(self, batch_size: int = 4) -> Iterator[tuple[list[torch.Tensor], list[int]]]:
        """Every photograph once, in the order of their ids: (images float [3, H, W] in [0, 1], their ids)."""
        for batch in served(self, batch_size, collate_fn=list):
            images, identifiers = zip(*batch, strict=True)
            yield list(images), list(identifiers)

    def sample(self, count: int, *, seed: int) -> torch.Tensor:
        """``count`` different photographs drawn at random, cropped and normalised: float [count, 3, H, W]."""
        check_count(count)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count]
        return torch.stack([self._preprocessing(read_photograph(self.files[index])) for index in order.tolist()])


def split_paths(root: Path, *, train: bool) -> tuple[Path, Path]:
    """The folder of a split's photographs, and its annotation file."""
    split = "train" if train else "val"
    split = split if (root / split).is_dir() else f"{split}2017"
    return root / split, root / "annotations" / f"instances_{split}.json"


def check_layout(root: Path, *, train: bool = False) -> None:
    """Raise ZeroQError unless the split's folder and its annotation file are there."""
    folder, path = split_paths(root, train=train)
    for needed, exists in ((folder, folder.is_dir()), (path, path.is_file())):
        if not exists:
            hint = f"{root} holds the photographs itself; " if any(root.glob("*.jpg")) else ""
            raise ZeroQError(
                f"{needed} is missing; {hint}unpack {folder.name}.zip and annotations_trainval2017.zip from "
                f"https://cocodataset.org side by side, and give their folder, root=…; a set of your own lies in "
                f"val/ and annotations/instances_val.json (or train)"
            )
