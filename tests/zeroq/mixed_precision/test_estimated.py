"""Sensitivities to second order."""

import numpy as np
import pytest
import torch
from torch import nn

import zeroq
from tests.networks import HandWritten
from tests.zeroq.mixed_precision.networks import Awkward, Detector, network
from zeroq.layers import weighted_layers
from zeroq.mixed_precision import exact
from zeroq.mixed_precision.estimated import coarse, estimates, extrapolated
from zeroq.mixed_precision.outputs import class_scores
from zeroq.networks import zoo
from zeroq.quantization.affine import weight_parameters


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


class ByKeyword(nn.Module):
    """Layers that are called by keyword."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(input=self.first(input=x).relu().mean((2, 3)))


class Positions(nn.Module):
    """Layers that see no image: of a batch of one, of none, and of one that looks like the images'; and once more."""

    def __init__(self):
        super().__init__()
        self.register_buffer("places", torch.randn(1, 3, 16, 16))
        self.register_buffer("eight", torch.randn(8, 4))
        self.batch, self.none, self.rows = nn.Conv2d(3, 6, 3), nn.Linear(4, 6), nn.Linear(4, 6)
        self.twice, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)

    def forward(self, x):
        maps = self.twice(x) + self.twice(self.places) + self.batch(self.places)
        return self.head(maps.relu().mean((2, 3)) + self.none(self.eight[0]) + self.rows(self.eight).mean(0))


class Windows(nn.Module):
    """A layer whose rows are parts of images, as in windowed attention, and one whose first axis is another."""

    def __init__(self):
        super().__init__()
        self.parts, self.steps, self.head = nn.Linear(12, 6), nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x):
        windows = x.unflatten(3, (4, 4)).permute(0, 3, 2, 1, 4).flatten(0, 1).flatten(2)  # [4 N, 16, 12]
        steps = self.parts(windows).unflatten(0, (len(x), -1)).flatten(1, 2).transpose(0, 1)  # [64, N, 6]
        return self.head(self.steps(steps).relu().mean(0))


@pytest.mark.parametrize("kind", [ByKeyword, Positions, Windows])
def test_calls_of_every_kind(images, kind):
    torch.manual_seed(0)
    model, images = kind().double(), images.double()
    widths = (6, 8)
    candidates = exact.Candidates(weighted_layers(model), widths, {})
    with torch.no_grad():
        found = estimates(model, images, candidates, directions=3000, on_layer=lambda done, total: None)
    expected = torch.tensor(zeroq.sensitivity(model, images, widths).to_numpy())
    assert (expected > 0).all()
    assert torch.allclose(found, expected, rtol=0.25)


class Detached(ByKeyword):
    """Nothing says how the scores depend on what precedes."""

    def forward(self, x):
        return self.head(self.first(x).relu().mean((2, 3)).detach())


class Half(ByKeyword):
    def forward(self, x):
        with torch.no_grad():
            x = self.first(x)
        return self.head(x.relu().mean((2, 3)))


@pytest.mark.parametrize("kind", [Detached, Half])
def test_layers_that_torch_loses_sight_of_are_not_taken_for_those_that_see_no_image(images, kind):
    with pytest.raises(
        zeroq.ZeroQError, match=r"cannot be differentiated \(layer '(first|head)' depends on the images"
    ):
        zeroq.sensitivity(kind(), images, mode="estimated")


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


def test_wide_grids_are_extrapolated_from_the_widest_measured():
    """By the square of the step: a weight's range over its number of steps."""
    assert coarse((2, 3, 4, 5, 8)) == (2, 3, 4)
    assert coarse((2, 8)) == (2,)
    assert coarse((6, 7, 8)) == (6,)
    measured = torch.tensor([[7.0, 3.0], [0.0, 0.0]], dtype=torch.float64)
    weight = torch.tensor([[-1.0, 0.25, 1.0]])
    for symmetric in (False, True):
        found = extrapolated(measured, (2, 4), (2, 4, 5, 8), symmetric=symmetric)
        step = {bits: weight_parameters(weight, bits, symmetric=symmetric).scale.item() for bits in (4, 5, 8)}
        expected = [7, 3, 3 * (step[5] / step[4]) ** 2, 3 * (step[8] / step[4]) ** 2]
        assert found[0].tolist() == pytest.approx(expected)
        assert found[1].tolist() == [0, 0, 0, 0]


def test_extrapolated_sensitivities_are_those_that_measuring_gives(images):
    """On average over layers: of each alone, one rounding at one width is as much chance as another."""
    model = zoo.load("resnet18")
    images = zeroq.gaussian_images(model.input.shape, 32)
    widths = (4, 5, 6, 8)
    estimated, measured = (
        zeroq.sensitivity(model.module, images, widths, mode=mode, rounding="compensated")
        for mode in ("estimated", "exact")
    )
    ratios = (estimated / measured).to_numpy()
    assert np.exp(np.log(ratios).mean(0)) == pytest.approx(1, abs=0.35)
