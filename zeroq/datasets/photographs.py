"""Photographs in files: what every dataset of them needs."""

from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, Dataset
from torchvision.transforms import v2

from zeroq.errors import ZeroQError
from zeroq.networks.pretrained import InputSpecification
from zeroq.parallel import shard

GREY, COLOUR = 1, 3  # channels
# What Pillow raises for damaged files, and for one that claims to have billions of pixels.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def preprocessing(specification: InputSpecification) -> v2.Compose:
    """A photograph → normalised float [channels, height, width], as the network was trained on.

    Raises ZeroQError for a network that takes neither three channels nor one, which is grey.
    """
    channels, height, width = specification.shape
    if channels not in (GREY, COLOUR):
        raise ZeroQError(
            f"the network takes images of {channels} channels, photographs have {COLOUR}, grey ones {GREY}; choose "
            f"other data"
        )
    return v2.Compose(
        [
            *([v2.Grayscale()] if channels == GREY else []),
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


def read_photograph(path: Path | str) -> Image.Image:
    """The decoded photograph in colour; raises ZeroQError that names one which cannot be decoded."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def check_readable(paths: Sequence[Path], on_photograph: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Decode every photograph once; raises ZeroQError that names the first for which it fails.

    ``on_photograph`` receives (photographs done, photographs in all). An ImageNet photograph takes a millisecond.
    """
    with ThreadPoolExecutor() as pool:
        try:
            for done, _ in enumerate(pool.map(_decode, paths), start=1):
                on_photograph(done, len(paths))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else the rest is decoded first
            raise


def served(photographs: Dataset[Any], batch_size: int, **options: Any) -> Iterator[Any]:
    """Batches of a data set in order, read by two workers; in a process group, a process's share of them.

    What the workers raise comes as the sentence alone, without their traceback. ``options`` are a DataLoader's.
    """
    batches = shard(list(BatchSampler(range(len(cast(Sized, photographs))), batch_size, drop_last=False)))
    try:
        yield from DataLoader(photographs, batch_sampler=batches, num_workers=2, **options)
    except ZeroQError as error:
        raise ZeroQError(str(error).strip().splitlines()[-1].partition("ZeroQError: ")[2] or str(error)) from None


def _decode(path: Path) -> None:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (1, 1))  # an eighth of the size: all of a JPEG's data are read, few pixels made
            image.load()
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path | str, error: Exception) -> ZeroQError:
    return ZeroQError(f"{path} is no readable photograph ({error}); copy it again or remove it")
