"""High-bias absorption: exact where its condition holds, left out elsewhere."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from tests.networks import assert_equal_outputs, normal_chain, outputs
from tests.zeroq.baselines.networks import assert_unchanged
from zeroq.baselines.bias_absorption import absorb_high_biases, unabsorbed_channels
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.patterns import layer_pairs
from zeroq.graph.tracing import trace


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_absorption_is_exact_where_its_condition_holds(groups):
    network = normal_chain(nn.ReLU(), groups)
    images = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)  # nothing below β - 3γ
    graph = fold_batch_norms(trace(network))
    first, bias = graph.get_submodule("0"), graph.get_submodule("0").bias.clone()
    graph = absorb_high_biases(graph)
    assert_equal_outputs(graph, images, outputs(network, images))
    assert torch.allclose(bias - first.bias, torch.tensor([0, 0, 5 - 2.1, 20 - 9]), atol=1e-5)
    assert torch.allclose(first.output_mean, torch.tensor([-1, 0.5, 2.1, 9]), atol=1e-5)


def behind_relu(*modules: nn.Module) -> nn.Sequential:
    """``normal_chain`` with other modules behind its ReLU."""
    return nn.Sequential(*normal_chain(nn.ReLU())[:3], *modules).eval()


def test_absorption_is_exact_behind_pooling_and_flattening():
    torch.manual_seed(0)
    network = behind_relu(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 16, 5))
    images = torch.randn(2, 4, 8, 8).clamp(-3, 3)
    graph = fold_batch_norms(trace(network))
    bias = graph.get_submodule("5").bias.clone()
    graph = absorb_high_biases(graph)
    assert not torch.allclose(graph.get_submodule("5").bias, bias)
    assert_equal_outputs(graph, images, outputs(network, images))


@pytest.mark.parametrize(
    ("network", "unabsorbed"),
    [
        (normal_chain(nn.ReLU(), padding=1), 2),
        (behind_relu(Conv2dSame(4, 4, 3)), 2),  # pads, though its padding says 0
        (behind_relu(nn.AvgPool2d(3, 1, padding=1), nn.Conv2d(4, 4, 1)), 2),
        (normal_chain(nn.Identity()), 0),
        (normal_chain(nn.LeakyReLU()), 0),
    ],
    ids=["padding", "own padding", "padded pooling", "no relu", "leaky relu"],
)
def test_absorption_leaves_what_is_not_exact_alone(network, unabsorbed):
    graph = fold_batch_norms(trace(network))
    assert_unchanged(absorb_high_biases, graph)
    assert unabsorbed_channels(graph, layer_pairs(graph)) == unabsorbed
