"""Stages stored by content, so that all bit settings of a network share its images and sensitivities.

Any number of processes may share a folder: what one of them computes, the others wait for.
"""

import hashlib
import io
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import fx, nn

import zeroq
from experiments.core.progress import console
from zeroq.errors import ZeroQError
from zeroq.whole import write_whole

PATIENCE = 5.0  # seconds, before a process that waits for another says so
CHECKSUM = 32  # bytes of an entry before its content


class StageCache:
    """Results of stages in a folder, under a hash of everything that determines them.

    Values are tensors, numbers, strings, and lists and dicts of them. An entry begins with a checksum: one that is
    damaged is computed again.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, key: dict[str, Any], compute: Callable[[], Any]) -> tuple[Any, float]:
        """(value, seconds that computing it took), computed now or earlier."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        path = self.folder / f"{key['stage']}-{digest[:20]}.stage"
        with locked(self.folder, path.stem):
            if (stored := self._stored(path)) is not None:
                return stored["value"], stored["seconds"]
            started = time.perf_counter()
            value = compute()
            seconds = time.perf_counter() - started
            self._store(path, {"value": value, "seconds": seconds})
        return value, seconds

    def _stored(self, path: Path) -> dict[str, Any] | None:
        """What an entry holds; None where there is none, or one that is not as it was written."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ZeroQError(f"cannot read {path} ({error.strerror})") from error
        checksum, packed = content[:CHECKSUM], content[CHECKSUM:]
        if checksum == hashlib.sha256(packed).digest():
            return torch.load(io.BytesIO(packed), weights_only=True)
        console.print(f"{path} is damaged; the stage is computed again", highlight=False, markup=False)
        return None

    def _store(self, path: Path, content: dict[str, Any]) -> None:
        torch.save(content, packed := io.BytesIO())
        try:
            write_whole(path, hashlib.sha256(packed.getvalue()).digest() + packed.getvalue())
        except OSError as error:
            raise ZeroQError(f"cannot write to {self.folder} ({error.strerror})") from error


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Let one process at a time do the thing of this name; the lock of a process that dies is free again.

    Who waits for long says for whom. Raises ZeroQError where the folder cannot be written.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()
    try:
        locks = folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock, owner = FileLock(locks / digest[:20]), locks / f"{digest[:20]}.owner"
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            who = owner.read_text() if owner.exists() else "another process"
            console.print(f"{name}: waiting for {who}, which is at it", highlight=False, markup=False)
            lock.acquire()
        owner.write_text(f"process {os.getpid()} on {platform.node()}")
    except OSError as error:
        raise ZeroQError(f"cannot write to {folder} ({error.strerror}); choose another folder, outputs=…") from error
    try:
        yield
    finally:
        lock.release()


def fingerprint(model: nn.Module) -> str:
    """A hash of a network's structure (of a traced one's code too) and of every parameter and buffer."""
    digest = hashlib.sha256(repr(model).encode())
    if isinstance(model, fx.GraphModule):
        digest.update(model.code.encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(content(tensor))
    return digest.hexdigest()


def content(tensor: torch.Tensor) -> bytes:
    """The bytes of a tensor's values, whatever their type, in the order of its axes."""
    return tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


def source_fingerprint() -> str:
    """A hash of the library's source, so that no stage outlives the code that computed it."""
    digest = hashlib.sha256()
    for path in sorted(Path(zeroq.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
