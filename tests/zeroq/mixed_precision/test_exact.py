"""Sensitivities computed from one layer on, or to second order, against full forwards of changed copies."""

import copy

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional
from torchvision import models

import zeroq
from tests.networks import HandWritten, estimate_statistics
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.tracing import trace
from zeroq.layers import channel_axis, weighted_layers
from zeroq.mixed_precision import exact
from zeroq.mixed_precision.divergence import class_scores, divergence
from zeroq.mixed_precision.estimated import estimates
from zeroq.networks import zoo
from zeroq.quantization.affine import quantized_weight

WIDTHS = (2, 4, 8)


def full_forwards(model: nn.Module, images: torch.Tensor, direction: str = "forward") -> torch.Tensor:
    """By definition: each layer's weight set in a copy of the network, at each width."""
    model = copy.deepcopy(model).eval()
    values = []
    with torch.no_grad():
        reference = class_scores(model, images)
        for layer in weighted_layers(model).values():
            before = layer.weight.data.clone()
            for bits in WIDTHS:
                layer.weight.data.copy_(quantized_weight(before, bits, axis=channel_axis(layer)))
                values.append(divergence(reference, class_scores(model, images), direction))
            layer.weight.data.copy_(before)
    return torch.tensor(values, dtype=torch.float64).view(-1, len(WIDTHS))


def measured(model: nn.Module, images: torch.Tensor, **settings) -> torch.Tensor:
    return torch.tensor(zeroq.sensitivity(model, images, WIDTHS, **settings).to_numpy())


def assert_same(found: torch.Tensor, expected: torch.Tensor, *, roundings: float = 1e-6) -> None:
    assert torch.allclose(found, expected, rtol=1e-5, atol=roundings)


class Awkward(nn.Module):
    """Works in place on what is still needed, drops out, uses a layer twice and a weight outside its layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.twice, self.side = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.tied = nn.Conv2d(8, 8, 1)
        self.tied.weight = self.side.weight
        self.never = nn.Conv2d(8, 8, 1)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, 5)

    def forward(self, x, temperature: float = 1.0):
        x = self.norm(self.stem(x))
        same = x.view(x.size(0), 8, -1)
        y = functional.relu(self.twice(x), inplace=True)
        same.mul_(0.5)  # changes x too
        x += self.side(y)
        x.relu_()
        y = self.tied(self.twice(x))
        y += functional.conv2d(x, self.side.weight)
        return self.head(self.drop((x + y).mean((2, 3)))) / temperature


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, stride=2))
        self.classes, self.boxes = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        maps = self.body(x)
        return {
            "cls_logits": self.classes(maps).flatten(2).transpose(1, 2),
            "bbox_regression": self.boxes(maps).flatten(2).transpose(1, 2),
        }


class Branching(nn.Module):
    """Asks for a value, so that it cannot be traced."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        x = self.first(x).mean((2, 3))
        return self.head(x) if x.sum() > 0 else self.head(-x)


class OverTheBatch(nn.Module):
    """Each image's scores depend on the others."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(functional.relu(self.norm(self.first(x))).mean((2, 3)))


def network(kind: type) -> nn.Module:
    torch.manual_seed(0)
    return estimate_statistics(kind(), (3, 16, 16))


@pytest.mark.parametrize("kind", [Awkward, Detector, Branching, OverTheBatch])
@pytest.mark.parametrize("memory_mib", [1024, 0.4, 0.05, 1e-3])
@pytest.mark.parametrize("direction", ["forward", "symmetric"])
def test_exact_is_what_full_forwards_give(images, kind, memory_mib, direction):
    model = network(kind)
    found = measured(model, images, direction=direction, memory_mib=memory_mib)
    assert_same(found, full_forwards(model, images, direction))


def test_networks_are_cut_where_they_can_be(images):
    def portions(model: nn.Module, memory_mib: float) -> exact.Portions:
        candidates = exact.Candidates(weighted_layers(model), WIDTHS, {})
        with torch.no_grad():
            return exact.portions_for(model, images, candidates, memory_mib)

    awkward = network(Awkward)
    assert [portions(awkward, memory).images for memory in (1024, 0.4, 1e-3)] == [8, 7, 1]
    assert portions(awkward, 0.4).network is not None
    assert portions(awkward, 1e-3).network is None
    assert portions(network(Branching), 1024).network is None
    assert portions(network(OverTheBatch), 1024).network is not None
    assert portions(network(OverTheBatch), 0.1).images == 8


@pytest.mark.parametrize(
    "build",
    [
        models.squeezenet1_1,
        models.shufflenet_v2_x0_5,
        pytest.param(models.googlenet, marks=pytest.mark.slow),
    ],
)
def test_exact_on_torchvision_s_networks(build):
    torch.manual_seed(0)
    settings = {"aux_logits": False, "init_weights": False} if build is models.googlenet else {}
    model = build(num_classes=7, **settings).eval()
    images = torch.randn(2, 3, 32, 32)
    assert_same(measured(model, images), full_forwards(model, images))
    # A folded BatchNorm rounds differently, and that alone is the difference.
    model, images = model.double(), images.double()
    assert_same(measured(model, images), full_forwards(model, images), roundings=1e-13)


def test_networks_whose_batch_norm_is_folded_twice_or_already(images):
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 6, 3))
    model = nn.Sequential(*layers, nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    for norm in (model[1], model[2], model[5]):
        nn.init.uniform_(norm.weight, -2, 2)
    model = estimate_statistics(model, (3, 16, 16))
    assert_same(measured(model, images), full_forwards(model, images))
    folded = fold_batch_norms(trace(model))
    assert_same(measured(folded, images), full_forwards(folded, images))
    folded.get_submodule("0").weight.data *= 0.5
    assert_same(measured(folded, images), full_forwards(folded, images))


@pytest.mark.parametrize("name", ["resnet18", "shufflenet"])
def test_exact_and_estimated_on_the_zoo(name):
    model = zoo.load(name).module
    images = torch.randn(16, 1, 56, 56, generator=torch.Generator().manual_seed(0))
    expected = full_forwards(model, images)
    assert_same(measured(model, images), expected)
    found = measured(model, images, mode="estimated")
    assert spearmanr(found.flatten(), expected.flatten()).statistic > 0.95


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        (HandWritten, "exact"),
        (Awkward, "exact"),
        (Detector, "exact"),
        (HandWritten, "estimated"),
        (Detector, "estimated"),
    ],
)
def test_leaves_the_network_as_it_came(images, kind, mode):
    model = network(kind).train()
    next(model.children()).eval()
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    values = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    asked = images.clone().requires_grad_()
    zeroq.sensitivity(model, asked, mode=mode)
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == values[name][0]
        assert torch.equal(tensor, values[name][1])
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == [
        index % 2 == 0 for index in range(len(list(model.parameters())))
    ]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert asked.grad is None
    assert not any(module._forward_hooks for module in model.modules())


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


def test_wrong_ways(hand_written, images):
    with pytest.raises(zeroq.ZeroQError, match="exact or estimated"):
        zeroq.sensitivity(hand_written, images, mode="guessed")
    with pytest.raises(zeroq.ZeroQError, match="memory_mib"):
        zeroq.sensitivity(hand_written, images, memory_mib=0)
    with pytest.raises(zeroq.ZeroQError, match="exact or estimated"):
        zeroq.zero_shot_quantize(hand_written, (3, 16, 16), sensitivity="guessed")


def test_progress_ends_at_all_layers(hand_written, images):
    for settings in ({}, {"memory_mib": 0.2}, {"memory_mib": 1e-3}, {"mode": "estimated"}):
        steps = []
        zeroq.sensitivity(hand_written, images, on_layer=lambda *step, steps=steps: steps.append(step), **settings)
        assert steps[-1] == (4, 4)
        assert steps == sorted(steps)
