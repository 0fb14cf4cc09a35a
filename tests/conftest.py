"""Fixtures that several tests share."""

import copy

import pytest
import torch
from torch import nn

from tests.networks import HandWritten, estimate_statistics


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
