"""Fixtures that several tests share."""

import copy
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest-xdist's processes share the cores

import pytest
import torch
from torch import nn

from experiments import run
from experiments.core import once
from tests.networks import HandWritten, estimate_statistics
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.evaluation import classification
from zeroq.networks import zoo

FEW = 500


@pytest.fixture(scope="session")
def _hand_written() -> nn.Module:
    torch.manual_seed(0)
    return estimate_statistics(HandWritten(), (3, 16, 16))


@pytest.fixture
def hand_written(_hand_written) -> nn.Module:
    """A small network with everything that naive conversion misses; input (3, 16, 16), 5 classes."""
    return copy.deepcopy(_hand_written)


@pytest.fixture
def images() -> torch.Tensor:
    """Eight normalised images for ``hand_written``."""
    return torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def no_norm() -> nn.Module:
    """A network without BatchNorm."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """One folder of outputs for a file's tests, so that they share the FP32 score."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def few_images(monkeypatch):
    """Fashion-MNIST with the first 500 images of each split, where scores need not be the committed ones."""
    whole = FashionMNIST.read

    def read(root: Path, *, train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = whole(root, train=train)
        return images[:FEW], labels[:FEW]

    monkeypatch.setattr(FashionMNIST, "read", staticmethod(read))


@pytest.fixture
def command(monkeypatch, outputs, few_images):
    """Run the command line with arguments, on few images; returns its exit status or message."""

    def call(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["run", f"outputs={outputs}", *arguments])
        try:
            run.main()
        except SystemExit as ended:
            return ended.code
        return 0

    return call


@pytest.fixture
def quick_scores(monkeypatch):
    """Scores without scoring, where only the stages before matter."""
    predictions = torch.zeros(FEW, dtype=torch.long)
    top1 = json.loads((zoo.WEIGHTS / "resnet18.json").read_text())["top1"]  # as other tests' records have it
    score = classification.Classification(top1, 99.0, predictions)
    for stage in ("score", "float_score"):  # the second would be kept for other tests
        monkeypatch.setattr(once, stage, lambda *arguments: score)
