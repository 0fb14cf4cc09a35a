"""Obtaining Fashion-MNIST, and serving it as a network expects."""

import subprocess
from pathlib import Path

import numpy
import pytest
import torch
from torchvision import datasets
from torchvision.transforms import v2

from zeroq import ZeroQError
from zeroq.datasets import fashion_mnist
from zeroq.datasets.fashion_mnist import FILE_BYTES, FashionMNIST, obtain
from zeroq.datasets.imagenet import ImageNet
from zeroq.networks.imagenet import input_specification
from zeroq.networks.zoo import input_specification as zoo_specification

DATA = Path(__file__).parents[1] / "data"


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


def test_imagenet_folder(tmp_path, monkeypatch):
    for index in range(3):
        folder = tmp_path / "val" / f"n{index:08d}"
        folder.mkdir(parents=True)
        pixels = numpy.full((300, 400, 3), 80 * index, dtype=numpy.uint8)
        v2.ToPILImage()(pixels).save(folder / "image.JPEG")
    specification = input_specification((224, 224))
    with pytest.raises(ZeroQError, match="3 class folders instead of 1000"):
        ImageNet(tmp_path, specification)
    with pytest.raises(ZeroQError, match="train is not a folder"):
        ImageNet(tmp_path, specification, train=True)
    monkeypatch.setattr("zeroq.datasets.imagenet.CLASSES", 3)
    dataset = ImageNet(tmp_path, specification)
    ((images, labels),) = dataset.batches()
    assert images.shape == (3, 3, 224, 224)
    assert labels.tolist() == [0, 1, 2]
    assert images[1].mean((1, 2)).tolist() == pytest.approx(
        [(80 / 255 - m) / s for m, s in zip(specification.mean, specification.std, strict=True)], abs=0.02
    )
    assert dataset.sample(2, seed=0).shape == (2, 3, 224, 224)
