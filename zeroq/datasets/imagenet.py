"""ImageNet's validation photographs, in torchvision's ImageFolder layout."""

from collections.abc import Iterator
from pathlib import Path

import torch
from timm.data import ImageNetInfo
from torchvision import datasets

from zeroq.datasets.digest import digest_of_contents, digest_of_files
from zeroq.datasets.photographs import preprocessing, read_photograph, served
from zeroq.errors import ZeroQError
from zeroq.images import check_count
from zeroq.networks.pretrained import InputSpecification


class ImageNet:
    """``root/val/<wnid>/*.JPEG`` (or ``root/train``), served in batches that fit a network's input.

    Class indices are those of the sorted WordNet ids, as in every published checkpoint; ``files`` are the photographs.
    Raises ZeroQError for a folder that is missing or empty, or whose class folders are not the 1,000 ids.
    """

    name = "imagenet"
    task = "classification"
    classes = 1000

    def __init__(self, root: Path, specification: InputSpecification, *, train: bool = False):
        check_layout(root, train=train)
        folder = split_folder(root, train=train)
        try:
            self._folder = datasets.ImageFolder(str(folder), preprocessing(specification), loader=read_photograph)
        except FileNotFoundError as error:
            raise ZeroQError(f"a class folder of {folder} is empty: {error}") from error
        self.files = [Path(path) for path, _ in self._folder.samples]

    def digest(self) -> str:
        """A hash of the photographs' names, sizes and times of change."""
        return digest_of_files(self.files)

    def content_digest(self) -> str:
        """A hash of the photographs, all of which are read."""
        return digest_of_contents(self.files)

    def __len__(self) -> int:
        return len(self._folder)

    def batches(self, batch_size: int = 100) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, in order: (images float [n, 3, H, W], labels int64 [n])."""
        yield from served(self._folder, batch_size)

    def sample(self, count: int, *, seed: int) -> torch.Tensor:
        """``count`` different images drawn at random, prepared: float [count, 3, H, W]."""
        check_count(count)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count].tolist()
        return torch.stack([self._folder[index][0] for index in order])


def split_folder(root: Path, *, train: bool) -> Path:
    """The folder of the training or of the validation photographs."""
    return root / ("train" if train else "val")


def check_layout(root: Path, *, train: bool = False) -> None:
    """Raise ZeroQError unless the split's folder holds one folder for each of ImageNet's 1,000 WordNet ids."""
    folder, known = split_folder(root, train=train), ImageNetInfo().label_names()
    if not folder.is_dir():
        hint = f"{root} holds the class folders itself; " if (root / known[0]).is_dir() else ""
        raise ZeroQError(f"{folder} is no folder; {hint}root is the folder that holds {folder.name}/")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if found == known:
        return
    strange, missing = sorted(set(found) - set(known)), sorted(set(known) - set(found))
    details = [
        f"{len(names)} {what}, first {names[0]}"
        for what, names in (("missing", missing), ("unknown", strange))
        if names
    ]
    raise ZeroQError(
        f"{folder} has {len(found)} class folders, which should be ImageNet's 1000 WordNet ids ({'; '.join(details)}); "
        f"labels would not fit the network's outputs"
    )
