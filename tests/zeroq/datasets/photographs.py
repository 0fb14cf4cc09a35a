"""Photographs of one shade."""

from pathlib import Path

import numpy
from PIL import Image
from timm.data import ImageNetInfo

from zeroq.networks.pytorchcv_models import input_specification

SPECIFICATION = input_specification((224, 224))


WORDNET_IDS = ImageNetInfo().label_names()


def save(path: Path, shade: int, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(numpy.full((*size[::-1], 3), shade, dtype=numpy.uint8)).save(path, "JPEG")
