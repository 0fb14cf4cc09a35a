"""Obtaining Fashion-MNIST."""

import shutil
import subprocess

import pytest

from tests.paths import DATA
from zeroq import ZeroQError
from zeroq.datasets import fashion_mnist
from zeroq.datasets.fashion_mnist import FILE_BYTES, obtain


def test_truncated_file_is_named(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"\0" * 1000)
    with pytest.raises(ZeroQError, match=r"t10k-images-idx3-ubyte has 1,000 bytes instead of 7,840,016.*delete it"):
        obtain(tmp_path)


def test_a_file_of_something_else_is_named(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    changed = bytearray((DATA / "FashionMNIST" / "raw" / "t10k-labels-idx1-ubyte").read_bytes())
    changed[100] ^= 1
    (raw / "t10k-labels-idx1-ubyte").write_bytes(changed)
    with pytest.raises(ZeroQError, match=r"t10k-labels-idx1-ubyte holds something else than Fashion-MNIST; delete it"):
        obtain(tmp_path)


def test_no_source_answers(tmp_path, monkeypatch):
    def no_download(*arguments, **keywords):
        raise RuntimeError("no such host")

    def no_apt(command, **keywords):
        raise subprocess.CalledProcessError(100, command, stderr=b"E: Unable to locate package")

    monkeypatch.setattr(fashion_mnist.datasets, "FashionMNIST", no_download)
    monkeypatch.setattr(subprocess, "run", no_apt)
    with pytest.raises(ZeroQError, match=r"torchvision's download \(no such host\) and Debian's.*Unable.*by hand"):
        obtain(tmp_path)
    assert list((tmp_path / "FashionMNIST" / "raw").iterdir()) == []


def test_second_source_is_used_when_the_first_fails(tmp_path, monkeypatch):
    def no_download(scratch):
        """the first"""
        raise OSError("no such host")

    def from_elsewhere(scratch):
        """the second"""
        for name in FILE_BYTES:
            shutil.copy(DATA / "FashionMNIST" / "raw" / name, scratch)
        return scratch

    monkeypatch.setattr(fashion_mnist, "_from_torchvision", no_download)
    monkeypatch.setattr(fashion_mnist, "_from_debian", from_elsewhere)
    obtain(tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    assert {path.name: path.stat().st_size for path in raw.iterdir()} == FILE_BYTES
