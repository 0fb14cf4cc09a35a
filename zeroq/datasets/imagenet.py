"""ImageNet's validation photographs, in torchvision's ImageFolder layout."""

from collections.abc import Iterator
from pathlib import Path

import torch
from timm.data import ImageNetInfo
from torch.utils.data import DataLoader
from torchvision import datasets

from zeroq.datasets.photographs import check_readable, preprocessing
from zeroq.errors import ZeroQError
from zeroq.images.checks import check_count
from zeroq.networks.pretrained import InputSpecification


class ImageNet:
    """``root/val/<wnid>/*.JPEG`` (or ``root/train``), served in batches that fit a network's input.

    Class indices are those of the sorted WordNet ids, as in every published checkpoint. Raises ZeroQError for a
    folder that is missing or empty, whose class folders are not the 1,000 ids, or with an unreadable photograph.
    """

    name = "imagenet"
    task = "classification"
    classes = 1000

    def __init__(self, root: Path, specification: InputSpecification, *, train: bool = False):
        folder = root / ("train" if train else "val")
        if not folder.is_dir():
            raise ZeroQError(f"{folder} is not a folder; give the one that holds it with data.root=…")
        try:
            self._folder = datasets.ImageFolder(str(folder), preprocessing(specification))
        except FileNotFoundError as error:  # no class folders, or one without images
            raise ZeroQError(f"{error}; {folder} must hold one folder of photographs for each WordNet id") from error
        check_classes(folder, self._folder.classes)
        if not train:  # of these every one is used
            check_readable([Path(path) for path, _ in self._folder.samples])

    def __len__(self) -> int:
        return len(self._folder)

    def batches(self, batch_size: int = 100) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, in order: (images float [n, 3, H, W], labels int64 [n])."""
        yield from DataLoader(self._folder, batch_size, num_workers=2)

    def sample(self, count: int, *, seed: int) -> torch.Tensor:
        """``count`` different images drawn at random, prepared: float [count, 3, H, W]."""
        check_count(count)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count].tolist()
        check_readable([Path(self._folder.samples[index][0]) for index in order])
        return torch.stack([self._folder[index][0] for index in order])


def check_classes(folder: Path, found: list[str]) -> None:
    """Raise ZeroQError unless the class folders are ImageNet's 1,000 WordNet ids in sorted order."""
    known = ImageNetInfo().label_names()
    if found == known:
        return
    strange, missing = sorted(set(found) - set(known)), sorted(set(known) - set(found))
    details = [
        f"{len(names)} {what}, first {names[0]}"
        for what, names in (("missing", missing), ("unknown", strange))
        if names
    ]
    raise ZeroQError(
        f"{folder} has {len(found)} class folders that are not ImageNet's 1000 WordNet ids ({'; '.join(details)}); "
        f"labels would not fit the network's outputs"
    )
