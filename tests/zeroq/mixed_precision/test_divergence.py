"""The divergence of class scores."""

import pytest
import torch

from zeroq.mixed_precision.divergence import divergence


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
