"""Sensitivities to second order."""

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import HandWritten
from tests.zeroq.mixed_precision.networks import Awkward, Detector, network
from zeroq.layers import weighted_layers
from zeroq.mixed_precision import exact
from zeroq.mixed_precision.divergence import class_scores
from zeroq.mixed_precision.estimated import estimates


@pytest.mark.parametrize("kind", [HandWritten, Detector])
def test_estimated_is_the_gauss_newton_form(images, kind):
    """½ δᵀ Jᵀ F J δ from the scores' own derivatives by the weight, in float64."""
    model, images = network(kind).double(), images[:3].double()
    layers = weighted_layers(model)
    widths = (4, 8)
    with torch.no_grad():
        candidates = exact.Candidates(layers, widths, {})
        found = estimates(model, images, candidates, directions=3000, on_layer=lambda done, total: None)
    scores = class_scores(model, images).detach()
    for row, layer in enumerate(layers.values()):
        for column, weight in enumerate(candidates.weights(list(layers)[row])):
            change = weight - layer.weight.detach()
            names = [name for name, each in model.named_parameters() if each is layer.weight]

            def moved(size, layer=layer, change=change, names=names):
                named = {name: layer.weight.detach() + size * change for name in names}
                output = torch.func.functional_call(model, named, (images,))
                return output["cls_logits"] if isinstance(output, dict) else output

            slope = torch.func.jvp(
                moved, (torch.zeros((), dtype=torch.float64),), (torch.ones((), dtype=torch.float64),)
            )[1]
            if kind is Detector:
                p = scores.sigmoid()
                expected = (p * (1 - p) * slope**2).sum(2).mean() / 2
            else:
                p = scores.softmax(1)
                expected = ((p * slope**2).sum(1) - (p * slope).sum(1) ** 2).mean() / 2
            assert found[row, column].item() == pytest.approx(expected.item(), rel=0.1, abs=1e-15)


def test_a_network_that_only_runs_forward_is_not_estimated(images):
    with pytest.raises(zeroq.ZeroQError, match="cannot be differentiated"):
        zeroq.sensitivity(network(Awkward), images, mode="estimated")


def test_backward_passes_do_not_grow_with_layers_and_widths(images, monkeypatch):
    passes = []
    gradient = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *given, **named: passes.append(1) or gradient(*given, **named))
    counts = []
    for depth, widths in ((1, (4,)), (6, range(2, 9))):
        torch.manual_seed(0)
        layers = [layer for _ in range(depth) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True))]
        model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
        passes.clear()
        zeroq.sensitivity(model, images, widths, mode="estimated")
        counts.append(len(passes))
    assert counts[0] == counts[1]
