"""Photographs in files: what every dataset of them needs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms import v2

from zeroq.errors import ZeroQError
from zeroq.networks.pretrained import InputSpecification

JPEG_END = b"\xff\xd9"
TAIL = 1024  # bytes at the end of a file, where some cameras put their own behind the mark


def preprocessing(specification: InputSpecification) -> v2.Compose:
    """A photograph → normalised float [3, height, width], as the network was trained on.

    Raises ZeroQError for a network that takes other than three channels.
    """
    channels, height, width = specification.shape
    if channels != 3:
        raise ZeroQError(f"the network takes images of {channels} channels, photographs have 3; choose other data")
    return v2.Compose(
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


def read_photograph(path: Path) -> Image.Image:
    """The decoded photograph in colour."""
    with Image.open(path) as image:
        return image.convert("RGB")


def check_readable(paths: Sequence[Path]) -> None:
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
