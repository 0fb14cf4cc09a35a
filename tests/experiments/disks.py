"""Small disks that fill, become read-only, and grow: tmpfs, where the tests may mount one."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096  # bytes, in which a tmpfs counts


class Disk:
    """A mounted tmpfs."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def with_left(self, pages: int) -> Iterator[None]:
        """Full but for some pages, while the block lasts."""
        ballast = self.folder / ".ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(PAGE))
            except OSError:
                file.truncate(max(file.tell() - PAGE * pages, 0))
        try:
            yield
        finally:
            ballast.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Nothing can be written, not by root either, while the block lasts."""
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def resize(self, size: str) -> None:
        """Give it another size; one that holds more by now stays as it is."""
        self._remount(f"size={size}", check=False)

    def _remount(self, option: str, *, check: bool = True) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.folder)], check=check, stderr=subprocess.DEVNULL)


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Disk]:
    """A disk of some size in a new folder; skips the test where none can be mounted."""
    folder.mkdir(parents=True)
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
        )
        said = mounted.stderr.decode(errors="replace").strip() if mounted.returncode else ""
    except FileNotFoundError as error:
        said = str(error)
    if said:
        pytest.skip(f"needs a small disk, and none can be mounted here: {said}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
