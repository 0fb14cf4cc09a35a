"""The divergence of class scores."""

import pytest
import torch

from zeroq.mixed_precision.divergence import SCORES, VALUES, divergence


@pytest.mark.parametrize("shape", [(3, 2), (3, 1, 1)])
@pytest.mark.parametrize("gap", [50.0, 1000.0])
def test_divergence_of_certain_classes_is_finite(shape, gap):
    certain, opposite = torch.zeros(shape), torch.zeros(shape)
    certain[..., 0], opposite[..., 0] = gap, -gap
    # The certain class's probability is 1 on one side; on the other its logarithm is minus the distance of the logits.
    expected = gap
    assert divergence(certain, opposite, "forward") == pytest.approx(expected, rel=1e-6)
    assert divergence(certain, opposite, "symmetric") == pytest.approx(expected, rel=1e-6)
    assert divergence(certain, certain, "forward") == 0


@pytest.mark.parametrize(("kind", "shape"), [(SCORES, (1, 4)), (SCORES, (1, 2, 3)), (VALUES, (1, 4))])
def test_the_root_of_a_distance_is_its_curvature_s(kind, shape):
    """B Bᵀ is the second derivative, by autograd, of the distance where nothing changed."""
    values = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    directions = torch.eye(values.numel(), dtype=torch.float64)
    root = torch.stack([kind.root(values, each.reshape(shape)).flatten() for each in directions], dim=1)
    curvature = torch.autograd.functional.hessian(kind.distance(values, "forward"), values)
    assert (root @ root.T - curvature.reshape(root.shape)).abs().max() < 1e-12
