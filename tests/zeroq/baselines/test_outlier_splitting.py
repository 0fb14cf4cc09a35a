"""Splitting of input channels: the same network in float, and rounding that adds up."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import assert_equal_outputs, outputs
from zeroq.baselines.outlier_splitting import outlier_columns, split_outlier_channels, split_weight, step_of_split
from zeroq.methods import method_by_name
from zeroq.quantization.affine import fake_quantize, weight_parameters

HOW = {"per_channel": False, "symmetric": False}


class Mixed(nn.Module):
    """Groups, a layer that is called twice, a concatenation, tokens and vectors; input (3, 12, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.joined = nn.Conv2d(16, 6, 1, bias=False)
        self.tokens = nn.Linear(6, 10)
        self.up = nn.ConvTranspose2d(6, 4, 2)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = self.stem(x).relu()
        x = self.twice(self.twice(x).relu())
        x = self.joined(torch.cat([x, self.depthwise(x)], 1))
        scores = self.head(self.tokens(x.flatten(2).transpose(1, 2)).mean(1))
        return scores + self.up(x).mean((1, 2, 3))[:, None]


@pytest.fixture
def mixed() -> nn.Module:
    torch.manual_seed(0)
    return Mixed().eval()


@pytest.mark.parametrize("expansion", [0.01, 0.5, 1.0])
def test_the_network_is_the_same_in_float(mixed, expansion):
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    before = copy.deepcopy(mixed.state_dict())
    plan = dict.fromkeys(("stem", "twice", "depthwise", "joined", "tokens", "up"), 4) | {"head": 32}
    split = split_outlier_channels(mixed, (3, 12, 12), plan, expansion, **HOW)
    assert_equal_outputs(split, images, outputs(mixed, images))
    added = {
        name: split.get_submodule(name).weight.shape[1] - layer.weight.shape[1]
        for name, layer in mixed._modules.items()
    }
    channels = {"stem": 3, "twice": 8, "joined": 16, "tokens": 6}
    expected = {name: {0.01: 1, 0.5: (count + 1) // 2, 1.0: count}[expansion] for name, count in channels.items()}
    assert added == expected | {"depthwise": 0, "up": 0, "head": 0}
    assert split.tokens.in_features == split.tokens.weight.shape[1]
    assert all(torch.equal(tensor, before[key]) for key, tensor in mixed.state_dict().items())


def test_each_time_the_column_with_the_largest_weight_is_split():
    weight = torch.tensor([[8.0, 1.0, -3.0], [0.5, 2.0, 2.5]])
    # 8 → 4 and 4 → 4 and two halves of 2 → the other 4; of 2, 2, 2, 2 and 3 the last; then the first 2.
    assert outlier_columns(weight, 1) == [0]
    assert outlier_columns(weight, 4) == [0, 0, 3, 2]
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 12, 3, 3, generator=generator)
    halved = split_weight(weight, outlier_columns(weight, 7), torch.zeros(()))
    # By brute force, one column after the other.
    expected = weight
    for _ in range(7):
        column = int(expected.abs().amax((0, 2, 3)).argmax())
        half = expected[:, column : column + 1] / 2
        expected = torch.cat([expected[:, :column], half, expected[:, column + 1 :], half], 1)
    assert torch.equal(halved, expected)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 6])
def test_rounded_parts_add_up_to_the_rounded_whole(bits, per_channel):
    """round((x − ½) / 2) + round((x + ½) / 2) = round(x), of which halves of equal size know nothing."""
    weight = torch.randn(6, 20, 3, 3, generator=torch.Generator().manual_seed(0))
    columns = outlier_columns(weight, 5)
    how = {"per_channel": per_channel, "symmetric": True}
    step = step_of_split(weight, columns, bits, **how)
    split = split_weight(weight, columns, step)
    parameters = weight_parameters(split, bits, **how)
    assert torch.allclose(parameters.scale, step, rtol=1e-5)  # the step that they were split for is the grid's
    rounded = fake_quantize(split, parameters)
    sources = list(range(20))
    for column in columns:
        sources.append(sources[column])
    index = torch.tensor(sources)
    sums = torch.zeros_like(weight).index_add(1, index, rounded)
    wide = step.view(-1, 1, 1, 1) if per_channel else step
    expected = (weight / wide).round() * wide
    assert torch.isclose(sums, expected, atol=1e-4).float().mean() > 0.999  # but for ties
    halves = split_weight(weight, columns, torch.zeros(()))
    plain = torch.zeros_like(weight).index_add(1, index, fake_quantize(halves, weight_parameters(halves, bits, **how)))
    assert (sums - weight).square().sum() < (plain - weight).square().sum()


def test_what_does_more_than_its_weight_says_stays(hand_written, images):
    split = split_outlier_channels(
        hand_written, (3, 16, 16), dict.fromkeys(("stem", "blocks.0.shared", "blocks.1.shared", "head"), 4), 0.2, **HOW
    )
    assert_equal_outputs(split, images, outputs(hand_written, images))
    assert split.stem.weight.shape[1] == 3  # a forward of its own, twice as much
    assert split.blocks.get_submodule("0").shared.weight.shape[1] == 10


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_share_that_is_none(hand_written, value):
    method = replace(method_by_name("ocs"), expansion=value)
    with pytest.raises(zeroq.ZeroQError, match="expansion is a share"):
        method.check(method.settings(4, 8))
