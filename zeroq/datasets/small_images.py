"""Labelled images that fit into memory, enlarged to what a network expects."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
from torch.nn import functional

from zeroq.datasets.digest import digest_of_arrays
from zeroq.errors import ZeroQError
from zeroq.images import check_count
from zeroq.networks.pretrained import InputSpecification
from zeroq.parallel import shard


class SmallImages(ABC):
    """One split: ``images`` uint8 [N, C, H, W] with ``labels`` int64 [N], in batches that fit a network's input.

    Raises ZeroQError for a network of other channels, before any download.
    """

    name: ClassVar[str]
    channels: ClassVar[int]
    task = "classification"
    classes = 10
    files = ()

    def __init__(self, root: Path, specification: InputSpecification, *, train: bool = False):
        channels = specification.shape[0]
        if self.channels not in (1, channels):
            raise ZeroQError(
                f"the network takes images of {channels} channels, {self.name} has {self.channels}; choose other data"
            )
        self.specification = specification
        self.images, self.labels = self.read(root, train=train)

    @staticmethod
    @abstractmethod
    def read(root: Path, *, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """A split's images and labels from a folder; downloads what is missing."""

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """A hash of the images and labels."""
        return digest_of_arrays(self.images.numpy(), self.labels.numpy())

    content_digest = digest

    def prepare(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [n, C, H, W] → normalised float [n, channels, height, width]; grey images fill all channels."""
        channels, height, width = self.specification.shape
        mean = torch.tensor(self.specification.mean).view(-1, 1, 1)
        std = torch.tensor(self.specification.std).view(-1, 1, 1)
        images = functional.interpolate(
            pixels.float() / 255, (height, width), mode=self.specification.interpolation, align_corners=False
        )
        return (images.expand(-1, channels, -1, -1) - mean) / std

    def batches(self, batch_size: int = 100) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, in order: (images float [n, C, H, W], labels int64 [n]); a process's share of them."""
        splits = zip(self.images.split(batch_size), self.labels.split(batch_size), strict=True)
        for pixels, labels in shard(list(splits)):
            yield self.prepare(pixels), labels

    def sample(self, count: int, *, seed: int) -> torch.Tensor:
        """``count`` different images drawn at random, prepared: float [count, C, H, W]."""
        check_count(count)
        generator = torch.Generator().manual_seed(seed)
        return self.prepare(self.images[torch.randperm(len(self), generator=generator)[:count]])
