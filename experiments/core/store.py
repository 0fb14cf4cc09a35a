"""Stages stored by content, so that all bit settings of a network share its images and sensitivities.

Any number of processes may share a folder: what one of them computes, the others wait for.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from filelock import FileLock
from torch import fx, nn

import zeroq
from zeroq.errors import ZeroQError


class StageCache:
    """Results of stages in a folder, under a hash of everything that determines them.

    Values are tensors, numbers, strings, and lists and dicts of them.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, key: dict[str, Any], compute: Callable[[], Any]) -> tuple[Any, float]:
        """(value, seconds that computing it took), computed now or earlier."""
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        path = self.folder / f"{key['stage']}-{digest[:20]}.pt"
        with locked(self.folder, path.stem):
            try:
                stored = torch.load(path, weights_only=True)
                return stored["value"], stored["seconds"]
            except (FileNotFoundError, RuntimeError, EOFError, UnpicklingError):
                pass  # a damaged file is computed again
            started = time.perf_counter()
            value = compute()
            seconds = time.perf_counter() - started
            self._store(path, {"value": value, "seconds": seconds})
        return value, seconds

    def _store(self, path: Path, content: dict[str, Any]) -> None:
        partial = path.with_suffix(".partial")  # of a process that holds the claim: another's is from one that died
        try:
            torch.save(content, partial)
            partial.rename(path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise ZeroQError(f"cannot write to {self.folder}: {str(error).splitlines()[0]}") from error
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Let one process at a time do the thing of this name; the lock of a process that dies is free again.

    Raises ZeroQError where the folder cannot be written.
    """
    digest = hashlib.sha256(name.encode()).hexdigest()
    try:
        locks = folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / digest[:20])
        lock.acquire()
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
