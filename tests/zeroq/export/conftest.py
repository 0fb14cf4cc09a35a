"""A network that several files export."""

import pytest
import torch
from torch import nn

from tests.networks import estimate_statistics
from tests.zeroq.export.networks import Residual


@pytest.fixture
def residual() -> nn.Module:
    torch.manual_seed(0)
    model = estimate_statistics(Residual(), (3, 16, 16))
    for norm in (model.stem[1], model.branch[4]):  # a negative factor mirrors the grid, and none removes the channel
        norm.weight.data[0] *= -1
        norm.weight.data[1] = 0
    return model
