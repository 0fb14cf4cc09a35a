"""Fashion-MNIST: 60,000 training and 10,000 test images of 28 × 28 grey pixels, ten classes."""

import gzip
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torchvision import datasets

from zeroq.datasets.small_images import SmallImages
from zeroq.errors import ZeroQError
from zeroq.networks.download import sha256

FILE_BYTES = {
    "train-images-idx3-ubyte": 16 + 60_000 * 28 * 28,
    "train-labels-idx1-ubyte": 8 + 60_000,
    "t10k-images-idx3-ubyte": 16 + 10_000 * 28 * 28,
    "t10k-labels-idx1-ubyte": 8 + 10_000,
}
# The first digits of each file's.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f32761",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d9272",
}


class FashionMNIST(SmallImages):
    """One split: ``images`` is uint8 [60,000 or 10,000, 1, 28, 28]."""

    name = "fashion-mnist"
    channels = 1

    @staticmethod
    def read(root: Path, *, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        obtain(root)
        try:
            split = datasets.FashionMNIST(str(root), train=train, download=False)
        except (AssertionError, ValueError, RuntimeError) as error:
            raise ZeroQError(f"the files under {root} are no Fashion-MNIST; delete them and run again") from error
        return split.data.unsqueeze(1), split.targets


def obtain(root: Path) -> None:
    """Make sure that the four raw files lie under ``root/FashionMNIST/raw``.

    Sources, in this order: files already there, torchvision's download, Debian's package
    dataset-fashion-mnist (unpacked without root). Raises ZeroQError where a file is truncated or
    another one, or no source answers.
    """
    raw = root / "FashionMNIST" / "raw"
    present = [name for name in FILE_BYTES if (raw / name).is_file()]
    _check_contents(raw, present)
    if len(present) == len(FILE_BYTES):
        return

    try:
        raw.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZeroQError(f"cannot create {raw} ({error.strerror}); choose another folder, root=…") from error
    failures = []
    for source in (_from_torchvision, _from_debian):
        # A scratch folder, so that a download cut short never looks like data.
        with tempfile.TemporaryDirectory(dir=raw.parent) as scratch:
            try:
                files = source(Path(scratch))
                _check_contents(files)
            except (OSError, EOFError, RuntimeError, zlib.error, ZeroQError, subprocess.SubprocessError) as error:
                failures.append(f"{source.__doc__} ({_reason(error)})")
                continue
            for name in FILE_BYTES:
                shutil.move(files / name, raw / name)
            return
    raise ZeroQError(
        f"Fashion-MNIST could not be obtained: tried {' and '.join(failures)}; "
        f"put the four unpacked files {', '.join(FILE_BYTES)} into {raw} by hand"
    )


def _check_contents(folder: Path, names: Iterable[str] = FILE_BYTES) -> None:
    for name in names:
        size = (folder / name).stat().st_size
        if size != FILE_BYTES[name]:
            raise ZeroQError(
                f"{folder / name} has {size:,} bytes instead of {FILE_BYTES[name]:,}: it is truncated or damaged; "
                f"delete it and run again"
            )
        if not sha256(folder / name).startswith(SHA256[name]):
            raise ZeroQError(f"{folder / name} holds something else than Fashion-MNIST; delete it and run again")


def _from_torchvision(scratch: Path) -> Path:
    """torchvision's download"""
    datasets.FashionMNIST(str(scratch), download=True)
    return scratch / "FashionMNIST" / "raw"


def _from_debian(scratch: Path) -> Path:
    """Debian's dataset-fashion-mnist"""
    for folder in ("lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    # Lists and cache of our own, so that no root is needed.
    own_state = ["-o", f"Dir::State::Lists={scratch / 'lists'}", "-o", f"Dir::Cache={scratch / 'cache'}"]
    apt = ["apt-get", *own_state, "-o", "APT::Sandbox::User=root"]
    for command in (["update"], ["download", "dataset-fashion-mnist"]):
        subprocess.run([*apt, *command], cwd=scratch, check=True, capture_output=True, timeout=300)
    packages = [path.name for path in scratch.glob("dataset-fashion-mnist*.deb")]
    subprocess.run(["dpkg", "-x", *packages, "."], cwd=scratch, check=True, capture_output=True, timeout=60)
    # Debian recompressed the archives, so torchvision's checksums of the .gz do not match; the content does.
    for name in FILE_BYTES:
        archive = scratch / "usr/share/datasets/fashion-mnist" / f"{name}.gz"
        with gzip.open(archive) as packed, (scratch / name).open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
    return scratch


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"{error.cmd[0]} ended with {error.returncode}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
