"""DFQ's steps on float weights: what they change, what they keep, and what they leave alone."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d, Conv2dSame, StdConv2d
from torch import nn
from torch.nn import functional
from torchvision.models import googlenet

import zeroq
from tests.networks import SubclassedConv, assert_equal_outputs, estimate_statistics, normal_chain, outputs
from zeroq.baselines.equalization import (
    absorb_high_biases,
    equalize,
    input_ranges,
    output_ranges,
    unabsorbed_channels,
    unequal_channels,
)
from zeroq.graph.folding import fold_batch_norms, replace_relu6
from zeroq.graph.patterns import layer_pairs
from zeroq.graph.tracing import trace
from zeroq.layers import is_affine, weighted_layers
from zeroq.modules import batch_norms
from zeroq.pipeline import quantize_with_dfq
from zeroq.settings import Settings


def assert_unchanged(step, graph) -> None:
    before = copy.deepcopy(graph.state_dict())
    after = step(graph).state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@pytest.mark.parametrize(
    ("layer", "affine"),
    [
        (nn.Conv2d(4, 6, 3, groups=2), True),
        (Conv2dSame(4, 6, 3, stride=2), True),  # pads by itself
        (Conv2dSame(4, 6, 3, bias=False, dilation=2), True),
        (StdConv2d(4, 6, 3), False),  # standardizes its weight
        (SubclassedConv(4, 6, 3), False),  # doubles its bias
    ],
)
def test_which_layers_do_what_their_weights_say(layer, affine):
    assert is_affine(layer) == affine


class Bent(nn.Linear):
    """With an activation inside."""

    def forward(self, x):
        return functional.silu(super().forward(x))


class Rectifying(nn.Conv2d):
    """With an activation before."""

    def forward(self, x):
        return super().forward(x.relu())


class Flipping(nn.Conv2d):
    """Takes its channels in another order."""

    def forward(self, x):
        return super().forward(x.flip(1))


class Shrinking(nn.Conv2d):
    """Scales its input."""

    def forward(self, x):
        return super().forward(0.1 * x)


class Standardizing(nn.Conv2d):
    """With a forward that is torch's, and another convolution in it."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


def hooked() -> nn.Module:
    layer = nn.Conv2d(3, 4, 1)
    layer.register_forward_hook(lambda layer, inputs, output: output.relu())
    return layer


def with_forward_of_its_own() -> nn.Module:
    layer = nn.Conv2d(3, 4, 1)
    layer.forward = lambda x: nn.Conv2d.forward(layer, x).relu()
    return layer


def test_a_layer_that_does_more_than_its_weight_says_is_not_affine():
    assert is_affine(nn.Linear(3, 4))
    others = [kind(3, 4, 1) for kind in (Rectifying, Flipping, Shrinking, Standardizing)]
    for layer in (Bent(3, 4), *others, hooked(), with_forward_of_its_own()):
        assert not is_affine(layer), layer


class Doubling(nn.BatchNorm2d):
    """Holds BatchNorm's statistics and does something else."""

    def forward(self, x):
        return 2 * super().forward(x)


class Rectified(nn.BatchNorm2d):
    """With an activation that only its own inputs reach."""

    def forward(self, x):
        return super().forward(x).relu()


def far_off() -> nn.Module:
    norm = Rectified(4)
    norm.bias.data += 5
    return norm


class WithFunction(nn.BatchNorm2d):
    """With an activation that is no module."""

    act = staticmethod(functional.relu)

    def forward(self, x):
        return self.act(super().forward(x))


class Branched(nn.Module):
    """What BatchNorm sees is used elsewhere, too."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.layer(x)
        return self.norm(y) + y


class Shared(Branched):
    """One layer before BatchNorm and before something else."""

    def forward(self, x):
        return self.norm(self.layer(x)) + self.layer(2 * x)


class NormTwice(Branched):
    def forward(self, x):
        return self.norm(self.norm(self.layer(x)))


class ReferringToNorm(Branched):
    """A scale that the network's own code uses as well."""

    def forward(self, x):
        return self.norm(self.layer(x)) * self.norm.weight.mean()


class Referring(Branched):
    """A weight that the network's own code uses as well."""

    def forward(self, x):
        return self.norm(self.layer(x)) + self.layer.weight.sum()


def sequence(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(*modules)


@pytest.mark.parametrize(
    "network",
    [
        Branched(),
        Shared(),
        NormTwice(),
        Referring(),
        ReferringToNorm(),
        sequence(nn.Conv2d(3, 4, 1), Doubling(4)),
        sequence(nn.Conv2d(3, 4, 1), far_off()),
        sequence(nn.Conv2d(3, 4, 1), WithFunction(4)),
        sequence(SubclassedConv(3, 4, 1), nn.BatchNorm2d(4)),
        sequence(StdConv2d(3, 4, 1), nn.BatchNorm2d(4)),
        sequence(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
    ],
    ids=[
        "branch",
        "shared",
        "twice",
        "reference",
        "reference to norm",
        "doubling",
        "own activation",
        "own function",
        "subclass",
        "standardized",
        "behind relu",
    ],
)
def test_only_what_folds_exactly_is_folded(network):
    torch.manual_seed(0)
    network = estimate_statistics(network, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)
    graph = fold_batch_norms(trace(network))
    assert len(batch_norms(graph)) == 1
    assert_equal_outputs(graph, images, outputs(network, images))


@pytest.mark.parametrize(
    ("network", "pairs"),
    [
        (sequence(nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.Conv2d(4, 4, 1), BatchNormAct2d(4, apply_act=False)), 1),
        (sequence(nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU()), 0),
        (sequence(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)), 1),
    ],
    ids=["with activation", "transposed, two norms", "vectors"],
)
def test_every_batch_norm_behind_a_layer_is_folded(network, pairs):
    torch.manual_seed(0)
    network = estimate_statistics(network, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)
    graph = fold_batch_norms(trace(network))
    assert not batch_norms(graph)
    assert len(layer_pairs(graph)) == pairs
    assert_equal_outputs(graph, images, outputs(network, images))


def test_batch_norm_without_eps_is_named():
    norm = nn.BatchNorm2d(4)
    del norm.eps
    with pytest.raises(zeroq.ZeroQError, match=r"'1' \(BatchNorm2d\) .* no eps"):
        fold_batch_norms(trace(sequence(nn.Conv2d(3, 4, 1), norm)))


def test_a_head_that_only_training_uses_is_quantized_like_by_other_methods():
    torch.manual_seed(0)
    network = googlenet(weights=None, init_weights=False, aux_logits=True).eval()
    result = quantize_with_dfq(network, (3, 64, 64), Settings(4, 8, mixed=False))
    assert result.plan.keys() == weighted_layers(network).keys()
    assert result.report["size_mib"] == pytest.approx(result.report["fp32_size_mib"] / 8)
    assert any(name.startswith("aux1") for name in result.report["unreached_activations"])


def test_relu6_is_replaced_where_nothing_saturates():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1), nn.Hardtanh(0, 6), Clamped(nn.Conv2d(4, 4, 1))]
    network = nn.Sequential(*layers)
    images = torch.rand(2, 3, 8, 8)
    graph = replace_relu6(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert outputs(graph, 1000 * images).max() > 6 >= outputs(network, 1000 * images).max()


def test_replaced_relu6_works_in_place_where_it_did():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)])
            self.module = nn.ReLU6(inplace=True)

        def forward(self, x):
            x = self.layers[0](x)
            self.module(x)
            x = self.layers[1](x)
            x.clamp_(0, 6)
            x = self.layers[2](x)
            functional.relu6(x, True)
            return x

    torch.manual_seed(0)
    network, images = InPlace().eval(), torch.randn(2, 3, 8, 8)
    graph = replace_relu6(trace(network))
    assert sum(node.target is functional.relu for node in graph.graph.nodes) == 2
    assert isinstance(graph.module, nn.ReLU)
    assert_equal_outputs(graph, images, outputs(network, images))


def test_relu6_that_no_layer_feeds_stays():
    class HardSwish(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.module = nn.Conv2d(3, 4, 1), nn.ReLU6()

        def forward(self, x):
            x = self.layer(x)
            return x * functional.relu6(x + 3) / 6 + self.module(x + 3)

    network, images = HardSwish().eval(), 10 * torch.randn(2, 3, 8, 8)
    assert_equal_outputs(replace_relu6(trace(network)), images, outputs(network, images))


class Clamped(nn.Module):
    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        x = functional.relu6(self.layer(x))
        return torch.clamp(x.clamp(0, 6), min=0, max=6)


class Chain(nn.Module):
    """Two convolutions with something in between."""

    def __init__(self, between, inputs: int = 4):
        super().__init__()
        self.first, self.second, self.between = nn.Conv2d(3, 4, 3), nn.Conv2d(inputs, 2, 3), between

    def forward(self, x):
        return self.second(self.between(self.first(x)))


class Twice(Chain):
    """The second layer sees something else, too."""

    def forward(self, x):
        return super().forward(x) + self.second(torch.cat([x, x[:, :1]], 1)[..., 1:-1, 1:-1])


class CalledTwice(Chain):
    """One of the first layer's two outputs goes elsewhere."""

    def forward(self, x):
        return super().forward(x).sum() + self.first(x).sum()


class Returned(Chain):
    """What is between the two is an output, too."""

    def forward(self, x):
        y = self.first(x)
        return self.second(y).sum() + y.sum()


class Tied(nn.Module):
    """Two layers that share a weight, of which one is part of a chain."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.other.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x)) + self.other(x)


LEFT_ALONE = {
    "sum": Chain(lambda x: functional.relu(x) + x),
    "constant": Chain(lambda x: functional.relu(x) + 1),
    "concatenation": Chain(lambda x: torch.cat([x, x], 1), 8),
    "shuffle": Chain(lambda x: functional.channel_shuffle(x, 2)),
    "reshape": Chain(lambda x: x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)),
    "relu6": Chain(nn.ReLU6()),
    "silu": Chain(nn.SiLU()),
    "sigmoid": Chain(torch.sigmoid),
    "two inputs": Twice(nn.ReLU()),
    "branch": Returned(nn.ReLU()),
    "called twice": CalledTwice(nn.ReLU()),
    "tied": Tied(),
    "linear over width": sequence(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(12, 5)),
    "linear over places": sequence(nn.Conv2d(3, 4, 1), nn.Flatten(2), nn.Linear(144, 5)),
    "pooled tokens": sequence(nn.Flatten(2), nn.Linear(144, 8), nn.MaxPool1d(2), nn.Linear(4, 4)),
    "convolved tokens": sequence(nn.Flatten(2), nn.Linear(144, 3), nn.Conv1d(3, 4, 1)),
    "linear over length": sequence(nn.Flatten(2), nn.Conv1d(3, 4, 1), nn.Linear(144, 8)),
    "pooled across channels": sequence(
        nn.Flatten(2), nn.Conv1d(3, 4, 1), nn.MaxPool2d(3, 1, padding=1), nn.Conv1d(4, 4, 1)
    ),
    "transposed": sequence(nn.ConvTranspose2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.ConvTranspose2d(4, 4, 1)),
    "standardized": sequence(nn.Conv2d(3, 4, 1), StdConv2d(4, 4, 1)),
}


@pytest.mark.parametrize("network", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_may_not_be_equalized_is_left_alone(network):
    graph = trace(network.eval())
    assert outputs(graph, torch.randn(2, 3, 12, 12)).isfinite().all()  # a network that works
    assert layer_pairs(graph) == []
    assert_unchanged(equalize, graph)


def test_tokens_are_equalized_through_their_last_axis():
    torch.manual_seed(0)
    network = sequence(nn.Flatten(2), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 5)).eval()
    network[1].weight.data *= torch.logspace(-3, 0, 8).view(-1, 1)
    images = torch.randn(2, 3, 12, 12)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert torch.allclose(output_ranges(graph.get_submodule("1")), input_ranges(graph.get_submodule("3"), 8), rtol=1e-3)


@pytest.mark.parametrize("between", [nn.ReLU(), nn.PReLU(4), nn.MaxPool2d(2), functional.relu, nn.Identity()])
def test_what_scales_is_equalized(between):
    torch.manual_seed(0)
    network = Chain(between).eval()
    network.first.weight.data *= torch.logspace(-3, 0, 4).view(-1, 1, 1, 1)
    network.first.weight.data[1] *= 1e-10  # dead channels keep their scale
    network.second.weight.data[:, 2] *= 1e-10
    images = torch.randn(2, 3, 12, 12)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    ranges, alive = output_ranges(graph.first), torch.tensor([0, 3])
    assert torch.allclose(ranges[alive], input_ranges(graph.second, 4)[alive], rtol=1e-3)
    assert torch.equal(graph.second.weight[:, 1:3], network.second.weight[:, 1:3])
    assert unequal_channels(graph, layer_pairs(graph)) == 2


def test_a_layer_that_sees_a_flattened_map_is_equalized():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    network[0].weight.data *= torch.logspace(-3, 0, 4).view(-1, 1, 1, 1)
    images = torch.randn(2, 3, 8, 8)
    graph = equalize(trace(network))
    assert_equal_outputs(graph, images, outputs(network, images))
    assert torch.allclose(output_ranges(graph.get_submodule("0")), input_ranges(graph.get_submodule("3"), 4), rtol=1e-3)


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


def test_statistics_follow_the_scales():
    network = normal_chain(nn.ReLU())
    images = torch.randn(8, 4, 128, 128, generator=torch.Generator().manual_seed(0))
    graph = equalize(fold_batch_norms(trace(network)))
    layer = graph.get_submodule("0")
    with torch.no_grad():
        found = layer(images)
    assert torch.allclose(found.mean((0, 2, 3)) / layer.output_mean, torch.ones(4), atol=0.02)
    assert torch.allclose(found.std((0, 2, 3)) / layer.output_std, torch.ones(4), atol=0.02)
    assert layer.output_std.max() / layer.output_std.min() != pytest.approx(3 / 0.7)  # as it was before
