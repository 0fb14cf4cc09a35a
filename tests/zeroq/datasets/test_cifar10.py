"""CIFAR-10 as a network expects it."""

import pickle

import numpy
import pytest
from torchvision import datasets

from zeroq import ZeroQError
from zeroq.datasets.cifar10 import CIFAR10
from zeroq.networks.pretrained import InputSpecification


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
