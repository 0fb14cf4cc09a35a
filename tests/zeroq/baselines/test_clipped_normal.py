"""Moments of a clipped normal variable against samples."""

import pytest
import torch

from zeroq.baselines.clipped_normal import clipped_normal_moments


@pytest.mark.parametrize(("low", "high"), [(0, torch.inf), (0, 6), (-torch.inf, torch.inf), (-1, 1)])
def test_clipped_normal_moments_agree_with_monte_carlo(low, high):
    mean, std = torch.tensor([-3.0, 0, 0.5, 4, 7, 2]), torch.tensor([1.0, 2, 0.3, 3, 1, 0])
    samples = mean + std * torch.randn(1_000_000, 6, generator=torch.Generator().manual_seed(0))
    clipped = samples.clamp(low, high).double()
    found_mean, found_std = clipped_normal_moments(mean, std, low, high)
    assert torch.allclose(found_mean.double(), clipped.mean(0), atol=0.01)
    assert torch.allclose(found_std.double(), clipped.std(0), atol=0.01)
