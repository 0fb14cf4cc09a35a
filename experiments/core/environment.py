"""What a number can depend on beside its settings: the device, versions, and the code's commit."""

import platform
import subprocess
from importlib.metadata import version

import torch

from zeroq.errors import ZeroQError

PACKAGES = ("torch", "torchvision", "pytorchcv", "timm", "pycocotools", "numpy")


def choose_device(name: str) -> torch.device:
    """The named device, or for ``auto`` a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("meta"):
        raise ZeroQError("device meta holds no values; try device=cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ZeroQError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}; try device=cpu") from error


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number can depend on."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


def git_commit() -> str | None:
    """The commit of the working tree, ``+`` behind it where files but results differ; None outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/results")
        return git("rev-parse", "HEAD") + ("+" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
