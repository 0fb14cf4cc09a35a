"""Pictures of the user's, without labels, as calibration images."""

import random
from pathlib import Path

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from zeroq.command.networks import NamedNetwork, imagenet_input
from zeroq.datasets.photographs import COLOUR, preprocessing, read_photograph
from zeroq.errors import ZeroQError
from zeroq.images import check_count


def pictures(folder: Path, network: NamedNetwork, count: int, *, seed: int) -> torch.Tensor:
    """``count`` pictures drawn at random below a folder, or all where it has fewer, prepared: float [N, C, H, W].

    They are resized, cropped and normalised as the network's library says, else as is usual for ImageNet. Raises
    ZeroQError for a folder without any, for one that cannot be read, and for grey ones of unknown normalisation.
    """
    check_count(count)
    if not folder.is_dir():
        raise ZeroQError(f"{folder} is no folder; --images names the one that holds your pictures")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())
    if not found:
        raise ZeroQError(f"{folder} holds no pictures; they end in {', '.join(IMG_EXTENSIONS)}")
    specification = network.input
    if specification is None:
        if network.shape[0] != COLOUR:
            raise ZeroQError(
                f"ImageNet's normalisation is of {COLOUR} channels, and the network takes {network.shape[0]}; give "
                f"--mean and --std"
            )
        specification = imagenet_input(network.shape)
    drawn = random.Random(seed).sample(found, min(count, len(found)))
    prepare = preprocessing(specification)
    return torch.stack([prepare(read_photograph(path)) for path in drawn])
