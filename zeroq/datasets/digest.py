"""Hashes that change with a dataset, so that a score of one is never taken for another's."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy

from zeroq.networks.download import sha256


def digest_of_arrays(*arrays: numpy.ndarray) -> str:
    """Of what arrays hold."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(numpy.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def digest_of_contents(files: Iterable[Path]) -> str:
    """Of what files hold, by name and folder: all of them are read."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.parent.name}/{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def digest_of_files(files: Iterable[Path]) -> str:
    """Of files by name, folder, size and time of change; to read a large dataset twice would take minutes."""
    digest = hashlib.sha256()
    for path in files:
        state = path.stat()
        digest.update(f"{path.parent.name}/{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
