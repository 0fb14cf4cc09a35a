"""Calibration images as files that other tools read."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from PIL import Image

from zeroq.errors import ZeroQError
from zeroq.images import check_images

NUMPY, PICTURES, DESCRIPTION = "images.npz", "png", "calibration.json"
WHITE = 255
PICTURE_CHANNELS = (1, 3)


def export_calibration_set(
    images: torch.Tensor,
    folder: Path | str,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Path:
    """Write calibration images for other tools: ``images.npz``, the folder ``png``, and ``calibration.json``.

    ``images.npz`` holds ``images``, float32 [N, C, H, W], exactly as a network takes them; most tools read it. ``png``
    holds a picture of 8 bits for each, where there are 1 or 3 channels, for tools that load and normalise pictures
    themselves. ``calibration.json`` says what a picture's 0…255 stands for: value = scale · pixel + offset, by channel,
    and which share of the values lay outside and was cut off.

    Args:
        images: float [N, C, H, W], normalised.
        mean, std: the normalisation, of pixels in [0, 1], by channel; pictures are then what it was applied to, and
            what is blacker than black or whiter than white is cut off. None: each channel's own range becomes 0…255.

    Raises:
        ZeroQError: images of the wrong shape or with NaN, a mean and a std that do not fit them, a folder that exists
            or cannot be written. The folder is written whole or not at all.
    """
    check_images(images)
    folder = Path(folder)
    values = images.detach().cpu().float()
    scale, offset = _pixel_values(values, mean, std)
    if folder.exists():
        raise ZeroQError(f"{folder} exists already; choose another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        try:
            _write(values, scale, offset, scratch)
            scratch.chmod(0o755)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ZeroQError(f"cannot write {folder} ({error.strerror}); choose another folder") from error
    return folder


def read_calibration_set(folder: Path | str) -> torch.Tensor:
    """The images of a calibration set, float32 [N, C, H, W]; raises ZeroQError where there are none."""
    try:
        with numpy.load(Path(folder) / NUMPY) as stored:
            return torch.from_numpy(stored["images"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ZeroQError(f"{folder} is no calibration set; write one with zeroq.export_calibration_set") from error


def _pixel_values(
    values: torch.Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What one step of a pixel is, and what 0 is, by channel."""
    channels = values.shape[1]
    if mean is None and std is None:
        low, high = values.transpose(0, 1).flatten(1).aminmax(dim=1)
        return ((high - low) / WHITE).clamp_min(torch.finfo(torch.float32).tiny), low
    if mean is None or std is None or len(mean) != channels or len(std) != channels:
        raise ZeroQError(f"mean and std are {channels} numbers each, one a channel")
    centre, spread = torch.as_tensor(mean, dtype=torch.float32), torch.as_tensor(std, dtype=torch.float32)
    if not (centre.isfinite().all() and spread.isfinite().all() and (spread > 0).all()):
        raise ZeroQError("mean and std are finite numbers, and std is above 0")
    return 1 / (WHITE * spread), -centre / spread


def _write(values: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, folder: Path) -> None:
    numpy.savez(folder / NUMPY, images=values.numpy())
    exact = (values - offset.view(-1, 1, 1)) / scale.view(-1, 1, 1)
    # What rounds into the range is not cut off.
    outside = ((exact < -0.5) | (exact > WHITE + 0.5)).double().mean().item()
    description = {"images": len(values), "scale": scale.tolist(), "offset": offset.tolist(), "cut_off": outside}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    if values.shape[1] not in PICTURE_CHANNELS:
        return
    (folder / PICTURES).mkdir()
    for number, picture in enumerate(exact.round().clamp(0, WHITE).to(torch.uint8)):
        pixels = picture.permute(1, 2, 0).squeeze(2).numpy()  # one channel is grey
        Image.fromarray(pixels).save(folder / PICTURES / f"{number:04d}.png")
