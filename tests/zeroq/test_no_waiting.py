"""No stage asks a GPU for a value before it has queued all its work.

A tensor on PyTorch's ``meta`` device has no values: who asks for one, or fetches it, is refused. What gets to the end
of its inner loop there never waits for a device.
"""

from contextlib import suppress

import pytest
import torch
from torch import nn
from torchvision import models

import zeroq
from zeroq.evaluation.classification import evaluate
from zeroq.layers import weighted_layers
from zeroq.mixed_precision.estimated import estimates
from zeroq.mixed_precision.exact import Candidates, Portions, with_full_forwards, with_suffixes
from zeroq.mixed_precision.outputs import BY_SHAPE
from zeroq.mixed_precision.suffix import SuffixNetwork

IMAGES = torch.zeros(4, 3, 16, 16, device="meta")
REFUSALS = (NotImplementedError, RuntimeError)


def without_values() -> nn.Module:
    return models.resnet18().eval().to("meta")


def candidates_of(model: nn.Module) -> Candidates:
    return Candidates(weighted_layers(model), (2, 4, 8), {"per_channel": True})


def test_the_device_refuses():
    with pytest.raises(REFUSALS):
        IMAGES.sum().item()
    with pytest.raises(REFUSALS):
        bool(IMAGES.sum() > 0)
    with pytest.raises(REFUSALS):
        IMAGES.cpu()


@torch.no_grad()
def test_exact_sensitivities():
    model = without_values()
    done = []
    given = (model, [IMAGES], [BY_SHAPE.scores(model(IMAGES))], candidates_of(model), "forward")
    with_full_forwards(*given, lambda layers, of: done.append((layers, of)))
    portions = Portions(SuffixNetwork(model, tuple(IMAGES.shape[1:])), len(IMAGES))
    with_suffixes(portions, *given[1:], lambda layers, of: done.append((layers, of)))
    layers = len(weighted_layers(model))
    assert done.count((layers, layers)) >= 2


def test_estimated_sensitivities():
    model, done = without_values(), []
    candidates = candidates_of(model)
    with suppress(*REFUSALS):  # the values are fetched when all are there
        estimates(model, IMAGES, candidates, on_layer=lambda layers, of: done.append((layers, of)))
    assert done[-1] == (len(candidates.layers),) * 2


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu", "integer"])
def test_evaluation_of_a_simulated_network(placement):
    simulated = zeroq.quantize(models.resnet18(), 4, 8, placement)
    zeroq.calibrate(simulated, torch.rand(8, 3, 16, 16))
    simulated.to("meta")
    batches = [(IMAGES, torch.zeros(4, dtype=torch.long))] * 3
    done = []
    with suppress(*REFUSALS):
        evaluate(simulated, batches, on_batch=done.append)
    assert done == [4, 4, 4]
