"""Sensitivities computed from one layer on, against full forwards of changed copies."""

import copy

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torchvision import models

import zeroq
from tests.networks import estimate_statistics
from tests.zeroq.mixed_precision.networks import Awkward, Branching, Detector, OverTheBatch, network
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.tracing import trace
from zeroq.layers import channel_axis, weighted_layers
from zeroq.mixed_precision import exact
from zeroq.mixed_precision.divergence import divergence
from zeroq.mixed_precision.outputs import class_scores
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


@pytest.mark.parametrize("kind", [Awkward, Detector, Branching, OverTheBatch])
@pytest.mark.parametrize("memory_mib", [1024, 0.4, 0.05, 1e-3])
@pytest.mark.parametrize("direction", ["forward", "symmetric"])
def test_exact_is_what_full_forwards_give(images, kind, memory_mib, direction):
    model = network(kind)
    found = measured(model, images, direction=direction, memory_mib=memory_mib)
    assert_same(found, full_forwards(model, images, direction))


@pytest.mark.parametrize("memory_mib", [0.8, 0.1, 1e-3])
def test_too_little_memory_costs_time_alone(images, memory_mib):
    """In portions and layer by layer, sums have another order, and nothing else differs; each time it is the same."""
    model, images = network(Awkward).double(), images.double()
    whole, first, second = (measured(model, images, memory_mib=bound) for bound in (1024, memory_mib, memory_mib))
    assert torch.equal(first, second)
    assert_same(first, whole, roundings=1e-13)


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
