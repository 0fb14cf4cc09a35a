"""Obtaining Fashion-MNIST, and serving it and CIFAR-10 as a network expects."""

import pickle
import subprocess

import numpy
import pytest
import torch
from torchvision import datasets
from torchvision.transforms import v2

from tests.paths import DATA
from zeroq import ZeroQError
from zeroq.datasets import fashion_mnist
from zeroq.datasets.cifar10 import CIFAR10
from zeroq.datasets.fashion_mnist import FILE_BYTES, FashionMNIST, obtain
from zeroq.networks.pretrained import InputSpecification
from zeroq.networks.zoo import input_specification as zoo_specification


def test_batches_are_what_the_network_was_trained_on():
    dataset = FashionMNIST(DATA, zoo_specification("resnet18"))
    images, labels = next(iter(dataset.batches(100)))
    assert images.shape == (100, 1, 56, 56)
    reference = datasets.FashionMNIST(str(DATA), train=False)
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((56, 56), antialias=False),
            v2.Normalize([0.286], [0.353]),
        ]
    )
    assert torch.allclose(images[17], transform(reference[17][0]), atol=1e-5)
    assert labels[17] == reference[17][1]
    assert sum(len(labels) for _, labels in dataset.batches()) == 10_000


def test_sample_is_reproducible_and_without_repeats():
    dataset = FashionMNIST(DATA, zoo_specification("resnet18"), train=True)
    first, again, other = (dataset.sample(8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.flatten(1).unique(dim=0)) == 8


def test_truncated_file_is_named(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"\0" * 1000)
    with pytest.raises(ZeroQError, match=r"t10k-images-idx3-ubyte has 1,000 bytes instead of 7,840,016.*delete it"):
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
        for name, size in FILE_BYTES.items():
            (scratch / name).write_bytes(b"\0" * size)
        return scratch

    monkeypatch.setattr(fashion_mnist, "_from_torchvision", no_download)
    monkeypatch.setattr(fashion_mnist, "_from_debian", from_elsewhere)
    obtain(tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    assert {path.name: path.stat().st_size for path in raw.iterdir()} == FILE_BYTES


def test_cifar10(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = numpy.random.default_rng(0)
    written = random.integers(0, 256, (6, 10, 3, 32, 32), dtype=numpy.uint8)
    for index, name in enumerate((*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")):
        content = {"data": written[index].reshape(10, -1), "labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    specification = InputSpecification((3, 64, 64), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    with pytest.raises(ZeroQError, match=r"CIFAR-10 could not be obtained.*put cifar-10-python\.tar\.gz"):
        CIFAR10(tmp_path, specification)  # the checksums are not right, and nothing can be downloaded
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *arguments: True)
    dataset = CIFAR10(tmp_path, specification)
    assert (len(dataset), len(CIFAR10(tmp_path, specification, train=True))) == (10, 50)
    ((images, labels),) = dataset.batches()
    assert labels.tolist() == list(range(10))
    assert images.shape == (10, 3, 64, 64)
    # Bilinear enlarging keeps the mean, up to the borders.
    expected = (written[5] / 255).mean((2, 3)) - numpy.array(specification.mean)
    assert numpy.allclose(images.mean((2, 3)), expected / numpy.array(specification.std), atol=0.05)
