"""What BatchNorm implies about activations, against samples."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.networks import normal_chain
from tests.zeroq.baselines.networks import Several
from zeroq.baselines.clipped_normal import clipped_normal_moments
from zeroq.baselines.propagation import activation_moments
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.tracing import trace


def test_ranges_are_six_deviations_of_batch_norm_and_the_image_s_limits():
    network = normal_chain(nn.ReLU())
    limits = ([-2.0] * 4, [2.5] * 4)
    inputs, outputs_of_relu = activation_moments(fold_batch_norms(trace(network)), (4, 8, 8), limits)
    (image,), (second,) = inputs["0"], inputs["3"]
    assert (image.low.min().item(), image.high.max().item()) == (-2, 2.5)
    assert (second.low.min().item(), second.high.max().item()) == pytest.approx((0, 20 + 6 * 3))
    assert second.mean.mean((0, 2, 3))[1] == pytest.approx(clipped_normal_moments(*torch.tensor([0.5, 2]), 0)[0])
    assert outputs_of_relu["2"][0].high.max() == second.high.max()


def test_sums_and_layers_without_statistics_take_inputs_as_independent():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.last(self.one(x[:, :3]) + self.two(x[:, 3:]))

    torch.manual_seed(0)
    network = Sum().eval()
    inputs, _ = activation_moments(trace(network), (6, 4, 4))
    samples = torch.randn(200, 6, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        summed = network.one(samples[:, :3]) + network.two(samples[:, 3:])
    (found,) = inputs["last"]
    assert torch.allclose(found.mean[0, :, 0, 0], summed.mean((0, 2, 3)), atol=0.01)
    assert torch.allclose(found.std[0, :, 0, 0], summed.std((0, 2, 3)), atol=0.01)


def test_moments_of_sums_agree_with_monte_carlo():
    torch.manual_seed(0)
    network = Several().eval()
    samples = torch.randn(100, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    inputs, _ = activation_moments(trace(network), (3, 4, 4))
    with torch.no_grad():
        one, two = functional.relu(network.one(samples)), functional.relu(network.two(samples) + 3)
    (found,) = inputs["last"]
    assert torch.allclose(found.mean[0, :, 0, 0], (one + two).mean((0, 2, 3)), atol=0.02)
    assert found.low.min() == 0  # of two rectified values
    first, second = inputs["shared"]
    assert torch.allclose(first.mean[0, :, 0, 0], one.mean((0, 2, 3)), atol=0.02)
    assert torch.allclose(second.mean[0, :, 0, 0], 10 + two.mean((0, 2, 3)), atol=0.02)


class Multiple(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.last(torch.add(self.one(x), other=functional.relu(self.two(x)), alpha=-2))


@pytest.mark.parametrize(("factor", "ends"), [(1, (-2, 4)), (-2, (-5, 4))])
def test_a_sum_reaches_no_further_than_its_parts(factor, ends):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.layer(torch.add(x, x, alpha=factor))

    (found,) = activation_moments(trace(Sum()), (3, 4, 4), ([-1.0] * 3, [2.0] * 3))[0]["layer"]
    assert (found.low.unique().item(), found.high.unique().item()) == ends  # less than six deviations of the sum


def test_moments_of_a_sum_with_a_multiple():
    torch.manual_seed(0)
    network = Multiple().eval()
    # The two layers see different channels, so that their outputs are independent.
    network.one.weight.data[:, 1:] = 0
    network.two.weight.data[:, :1] = 0
    samples = torch.randn(100, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    (found,) = activation_moments(trace(network), (3, 4, 4))[0]["last"]
    with torch.no_grad():
        sums = network.one(samples) - 2 * functional.relu(network.two(samples))
    assert torch.allclose(found.mean[0, :, 0, 0], sums.mean((0, 2, 3)), atol=0.02)
    assert torch.allclose(found.std[0, :, 0, 0], sums.std((0, 2, 3)), atol=0.02)


class InPlace(nn.Module):
    """Statements that change what was seen before."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.one(x)
        self.relu(x)
        y = self.two(x)
        y.add_(10)
        return self.last(y)


def test_in_place_statements_are_followed():
    torch.manual_seed(0)
    network = InPlace().eval()
    inputs, relu_outputs = activation_moments(trace(network), (3, 4, 4))
    samples = torch.randn(100, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one = network.one(samples).relu()
        two = network.two(one) + 10
    assert torch.allclose(inputs["two"][0].mean[0, :, 0, 0], one.mean((0, 2, 3)), atol=0.02)
    assert torch.allclose(inputs["last"][0].mean[0, :, 0, 0], two.mean((0, 2, 3)), atol=0.02)
    assert relu_outputs.keys() == {"relu"}


def test_a_clamp_clips_moments():
    class Clamping(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.two(torch.clamp(functional.hardtanh(self.one(x)), min=-0.5))

    (found,) = activation_moments(trace(Clamping()), (3, 4, 4))[0]["two"]
    assert (found.low.min().item(), found.high.max().item()) == (-0.5, 1)
