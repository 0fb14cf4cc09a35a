"""CIFAR-10: 50,000 training and 10,000 test images of 32 × 32 colour pixels, ten classes."""

from pathlib import Path

import torch
from torchvision import datasets

from zeroq.datasets.small_images import SmallImages
from zeroq.errors import ZeroQError
from zeroq.networks.pretrained import InputSpecification


class CIFAR10(SmallImages):
    """One split: ``images`` is uint8 [50,000 or 10,000, 3, 32, 32]; torchvision downloads what is missing."""

    name = "cifar10"

    def __init__(self, root: Path, specification: InputSpecification, *, train: bool = False):
        try:
            split = datasets.CIFAR10(str(root), train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise ZeroQError(
                f"CIFAR-10 could not be obtained ({str(error).splitlines()[0]}); put cifar-10-python.tar.gz from "
                f"https://www.cs.toronto.edu/~kriz/cifar.html into {root}"
            ) from error
        super().__init__(torch.from_numpy(split.data).permute(0, 3, 1, 2), torch.tensor(split.targets), specification)
