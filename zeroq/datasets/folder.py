"""Any photographs in folders of their classes, torchvision's ImageFolder layout."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torchvision import datasets

from zeroq.datasets.digest import digest_of_contents, digest_of_files
from zeroq.datasets.photographs import preprocessing, read_photograph, served
from zeroq.errors import ZeroQError
from zeroq.images import check_count
from zeroq.networks.pretrained import InputSpecification


class Folder:
    """``root/val/<class>/*`` (or ``root/train``), or ``root/<class>/*`` alone, in batches that fit a network's input.

    Class indices are those of the folders' sorted names; ``files`` are the photographs. Raises ZeroQError for a folder
    that is missing or holds no classes, and for a class without photographs.
    """

    name = "folder"
    task = "classification"
    classes: int | None = None  # until it is read

    def __init__(self, root: Path, specification: InputSpecification, *, train: bool = False):
        self.check_layout(root, train=train)
        folder = self.split_folder(root, train=train)
        try:
            self._folder = datasets.ImageFolder(str(folder), preprocessing(specification), loader=read_photograph)
        except FileNotFoundError as error:
            raise ZeroQError(f"a class folder of {folder} is empty: {error}") from error
        self.files = [Path(path) for path, _ in self._folder.samples]
        self.classes = len(self._folder.classes)

    @staticmethod
    def split_folder(root: Path, *, train: bool) -> Path:
        """The folder of the training or of the validation photographs."""
        split = root / ("train" if train else "val")
        return split if train or split.is_dir() else root

    @classmethod
    def check_layout(cls, root: Path, *, train: bool = False) -> None:
        """Raise ZeroQError unless the split's folder holds folders of classes."""
        folder = cls.split_folder(root, train=train)
        if not folder.is_dir():
            raise ZeroQError(f"{folder} is no folder; root is the folder that holds {folder.name}/")
        if not any(path.is_dir() for path in folder.iterdir()):
            raise ZeroQError(f"{folder} holds no folders; each class is a folder with its photographs")

    def digest(self) -> str:
        """A hash of the photographs' names, sizes and times of change."""
        return digest_of_files(self.files)

    def content_digest(self) -> str:
        """A hash of the photographs, all of which are read."""
        return digest_of_contents(self.files)

    def __len__(self) -> int:
        return len(self._folder)

    def batches(self, batch_size: int = 100) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, in order: (images float [n, C, H, W], labels int64 [n])."""
        yield from served(self._folder, batch_size)

    def sample(self, count: int, *, seed: int) -> torch.Tensor:
        """``count`` different images drawn at random, prepared: float [count, C, H, W]."""
        check_count(count)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count].tolist()
        return torch.stack([self._folder[index][0] for index in order])
