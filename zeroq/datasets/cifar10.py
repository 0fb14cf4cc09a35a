"""CIFAR-10: 50,000 training and 10,000 test images of 32 × 32 colour pixels, ten classes."""

from pathlib import Path

import torch
from torchvision import datasets

from zeroq.datasets.small_images import SmallImages
from zeroq.errors import ZeroQError


class CIFAR10(SmallImages):
    """One split: ``images`` is uint8 [50,000 or 10,000, 3, 32, 32]; torchvision downloads what is missing."""

    name = "cifar10"
    channels = 3

    @staticmethod
    def read(root: Path, *, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        try:
            split = datasets.CIFAR10(str(root), train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise ZeroQError(
                f"CIFAR-10 could not be obtained ({str(error).splitlines()[0]}); put cifar-10-python.tar.gz from "
                f"https://www.cs.toronto.edu/~kriz/cifar.html into {root}, or give its folder, root=…"
            ) from error
        return torch.from_numpy(split.data).permute(0, 3, 1, 2), torch.tensor(split.targets)
