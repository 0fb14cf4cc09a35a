"""ImageNet's validation photographs, in torchvision's ImageFolder layout."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

from zeroq.errors import ZeroQError
from zeroq.images.checks import check_count
from zeroq.networks.pretrained import InputSpecification

CLASSES = 1000
JPEG_END = b"\xff\xd9"
TAIL = 1024  # bytes at the end of a file, where some cameras put their own behind the mark


class ImageNet:
    """``root/val/<wnid>/*.JPEG`` (or ``root/train``), served in batches that fit a network's input.

    Class indices are those of the sorted WordNet ids, as in every published checkpoint.
    """

    name = "imagenet"

    def __init__(self, root: Path, specification: InputSpecification, *, train: bool = False):
        folder = root / ("train" if train else "val")
        if not folder.is_dir():
            raise ZeroQError(f"{folder} is not a folder; give the one that holds it with data.root=…")
        _, height, width = specification.shape
        preprocessing = v2.Compose(
            [
                v2.ToImage(),
                v2.Resize(
                    specification.resize or [height, width],
                    interpolation=v2.InterpolationMode(specification.interpolation),
                ),
                v2.CenterCrop([height, width]),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(specification.mean, specification.std),
            ]
        )
        try:
            self._folder = datasets.ImageFolder(str(folder), preprocessing)
        except FileNotFoundError as error:  # no class folders, or one without images
            raise ZeroQError(f"{error}; {folder} must hold one folder of photographs for each WordNet id") from error
        if len(self._folder.classes) != CLASSES:
            raise ZeroQError(
                f"{folder} has {len(self._folder.classes)} class folders instead of {CLASSES}, one for each WordNet "
                f"id; labels would not fit the network's outputs"
            )

        check_readable([Path(path) for path, _ in self._folder.samples])

    def __len__(self) -> int:
        return len(self._folder)

    def batches(self, batch_size: int = 100) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, in order: (images float [n, 3, H, W], labels int64 [n])."""
        yield from DataLoader(self._folder, batch_size, num_workers=2)

    def sample(self, count: int, *, seed: int) -> torch.Tensor:
        """``count`` different images drawn at random, prepared: float [count, 3, H, W]."""
        check_count(count)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return torch.stack([self._folder[index][0] for index in order[:count].tolist()])


def check_readable(paths: list[Path]) -> None:
    """Raise ZeroQError that names the first photograph which cannot be decoded, in seconds for 50,000.

    Only files without a JPEG's end mark are decoded as a whole; the others' headers are read.
    """
    with ThreadPoolExecutor() as pool:
        for path, problem in zip(paths, pool.map(_problem, paths), strict=True):
            if problem:
                raise ZeroQError(f"{path} is no readable photograph ({problem}); copy it again or remove it")


def _problem(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - TAIL, 0))
            complete = JPEG_END in file.read()
        with Image.open(path) as image:
            if not complete:
                image.load()
    except (OSError, SyntaxError, ValueError) as error:
        return str(error)
    return None
