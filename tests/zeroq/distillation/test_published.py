"""The published recipe: what it starts from, what it lowers, determinism, how it fails."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import zeroq
from zeroq.images import UNIFORM_LIMIT


@pytest.mark.parametrize("statistics", ["image", "batch"])
def test_distillation_lowers_the_loss(hand_written, statistics):
    images = zeroq.distill(hand_written, (3, 16, 16), count=4, iterations=100, statistics=statistics)
    assert images.shape == (4, 3, 16, 16)
    assert images.dtype == torch.float32
    assert not images.requires_grad
    noise = zeroq.gaussian_images((3, 16, 16), 4)
    distilled, gaussian = (zeroq.batch_norm_loss(hand_written, x, statistics=statistics) for x in (images, noise))
    assert distilled < gaussian / 2


@pytest.mark.parametrize(
    "limits", [[(-1, 1)] * 3, [(-1, 1)] * 2, (0, 1), ([0, 0, 0], [0, 1, 1]), ([0], [1]), ("a", "b")]
)
def test_limits_that_are_none(hand_written, limits):
    with pytest.raises(zeroq.ZeroQError, match="limits must be two sequences"):
        zeroq.distill(hand_written, (3, 16, 16), 2, 2, limits=limits)


def test_limits_bound_the_pixels(hand_written):
    lowest, highest = (-0.5, -0.2, -0.1), (0.3, 0.2, 0.4)
    images = zeroq.distill(hand_written, (3, 16, 16), count=2, iterations=20, limits=(lowest, highest))
    for channel, limits in enumerate(zip(lowest, highest, strict=True)):
        assert tuple(images[:, channel].aminmax()) == pytest.approx(limits)
    free = zeroq.distill(hand_written, (3, 16, 16), count=2, iterations=20)
    wide = zeroq.distill(hand_written, (3, 16, 16), count=2, iterations=20, limits=([-99.0] * 3, [99.0] * 3))
    assert torch.equal(free, wide)


def test_same_seed_same_images(hand_written):
    first, second, other = (
        zeroq.distill(hand_written, (3, 16, 16), count=2, iterations=5, seed=seed) for seed in (7, 7, 8)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def numbered_network() -> nn.Module:
    """A network whose every number is fixed here; input (1, 8, 8)."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2))
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.linspace(-0.5, 0.7, parameter.numel()).view_as(parameter) + 0.01 * index)
        for index in (1, 4):
            network[index].running_mean.copy_(torch.tensor([0.3, -0.2]))
            network[index].running_var.copy_(torch.tensor([1.5, 0.5]))
    return network


def trace(iterations: int, **settings) -> list[float]:
    losses = []
    zeroq.distill(
        *(numbered_network(), (1, 8, 8), 2, iterations),
        on_iteration=lambda iteration, loss: losses.append(loss),
        **settings,
    )
    return losses


def test_golden_loss_trace():
    """A change of recipe shows in the first losses."""
    assert trace(6) == pytest.approx(GOLDEN_LOSSES, rel=1e-4)


def test_learning_rate_falls_on_a_plateau():
    """Adam's steps are about as long as its learning rate; these losses stop falling after the second."""

    def longest_steps(**settings) -> list[float]:
        network, seen = numbered_network(), []
        network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
        zeroq.distill(network, (1, 8, 8), 2, 30, **settings)
        return [(after - before).abs().max().item() for before, after in pairwise(seen)]

    constant, falling = longest_steps(), longest_steps(patience=1)
    assert falling[:3] == constant[:3]
    assert min(constant) > 0.1
    assert falling[-1] < 1e-3
    # With the floor as high as the start, nothing falls.
    assert longest_steps(patience=1, smallest_learning_rate=0.5) == constant


GOLDEN_LOSSES = [105.0973, 7.6014, 12.0568, 16.964, 21.159, 24.1751]


def test_starts_from_the_published_noise(hand_written):
    start = []
    hand_written.register_forward_pre_hook(lambda module, inputs: start.append(inputs[0].detach().clone()))
    zeroq.distill(hand_written, (3, 16, 16), count=32, iterations=1)
    assert start[0].abs().max() <= UNIFORM_LIMIT
    assert start[0].std().item() == pytest.approx(0.0136, abs=2e-4)


def test_weights_take_no_gradients(hand_written):
    during = []
    hand_written.register_forward_pre_hook(
        lambda module, inputs: during.append(any(p.requires_grad for p in module.parameters()))
    )
    zeroq.distill(hand_written, (3, 16, 16), count=2, iterations=2)
    assert during == [False, False]
    assert all(parameter.grad is None for parameter in hand_written.parameters())


def test_inside_inference_mode(hand_written):
    with torch.inference_mode():
        images = zeroq.distill(hand_written, (3, 16, 16), count=2, iterations=2)
    assert images.isfinite().all()


def test_frozen_batch_norm_with_zero_eps_is_matched():
    """Detectors' BatchNorm is no subclass of BatchNorm2d, and a missed one leaves only the input term."""
    torch.manual_seed(0)
    frozen = FrozenBatchNorm2d(4, eps=0.0)
    frozen.running_mean += 0.5
    network = nn.Sequential(nn.Conv2d(3, 4, 3), frozen)
    losses = []
    zeroq.distill(network, (3, 12, 12), 2, 60, on_iteration=lambda iteration, loss: losses.append(loss))
    assert losses[-1] < losses[0] / 10


def test_one_by_one_maps_match_means_only():
    """A single value has no unbiased variance; the loss must not become NaN."""
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4))
    assert zeroq.distill(network, (3, 8, 8), 2, 3).isfinite().all()


def test_no_batch_norm_is_refused_and_gaussian_still_works(no_norm):
    with pytest.raises(zeroq.ZeroQError, match=r"no BatchNorm.*gaussian"):
        zeroq.distill(no_norm, (3, 8, 8))
    quantized = zeroq.quantize(no_norm)
    zeroq.calibrate(quantized, zeroq.gaussian_images((3, 8, 8), 4))


def test_divergence_names_the_learning_rate(hand_written):
    with pytest.raises(zeroq.DistillationDivergedError, match=r"learning rate 1e\+30"):
        zeroq.distill(hand_written, (3, 16, 16), count=2, iterations=50, learning_rate=1e30)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"count": 0}, "count"),
        ({"count": 2.5}, "count"),
        ({"iterations": 2.5}, "iterations"),
        ({"learning_rate": 1e38}, "learning_rate"),
        ({"input_shape": 8}, "input shape"),
        ({"input_shape": (3.0, 16, 16)}, "input shape"),
        ({"iterations": 0}, "iterations"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": 1e-9}, "learning_rate"),
        ({"statistics": "both"}, "statistics"),
        ({"input_shape": (3, 16)}, "input shape"),
        ({"input_shape": (1, 16, 16)}, "does not accept images of shape"),
    ],
)
def test_wrong_arguments(hand_written, arguments, sentence):
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.distill(hand_written, **{"input_shape": (3, 16, 16), "iterations": 1, **arguments})
