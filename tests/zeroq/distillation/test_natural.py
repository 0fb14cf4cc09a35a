"""Images within the spectrum of natural ones: that they match, what they keep to, and what their pixels are like."""

import copy

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.distillation.fast import FARTHEST_PIXEL
from zeroq.networks import zoo

SHAPE = (3, 16, 16)


def neighbours(images: torch.Tensor) -> float:
    """The correlation of pixels that lie side by side."""
    return torch.corrcoef(torch.stack([images[..., 1:].flatten(), images[..., :-1].flatten()]))[0, 1].item()


def test_neighbouring_pixels_agree_as_in_natural_images():
    """The fast recipe's do not, though its images satisfy the same layers: what it starts from is white."""
    mobilenet = zoo.load("mobilenetv2")
    given = {"count": 4, "limits": mobilenet.input.limits}
    natural = zeroq.distill_natural(mobilenet.module, mobilenet.input.shape, **given)
    white = zeroq.distill_fast(mobilenet.module, mobilenet.input.shape, **given)
    assert neighbours(natural) > neighbours(white) + 0.2


def test_same_seed_same_images(hand_written):
    first, second, other = (zeroq.distill_natural(hand_written, SHAPE, 2, 5, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (2, *SHAPE)
    assert first.dtype == torch.float32
    assert not first.requires_grad


def test_pixels_keep_to_limits(hand_written):
    images = zeroq.distill_natural(hand_written, SHAPE, 2, 60, learning_rate=3)
    assert images.abs().max() == FARTHEST_PIXEL
    lowest, highest = (-0.5, -0.2, -0.1), (0.3, 0.2, 0.4)
    images = zeroq.distill_natural(hand_written, SHAPE, 2, 20, limits=(lowest, highest))
    for channel, limits in enumerate(zip(lowest, highest, strict=True)):
        assert tuple(images[:, channel].aminmax()) == pytest.approx(limits)


def test_losses_fall_and_come_in_order(hand_written):
    reported = []
    zeroq.distill_natural(
        *(hand_written, SHAPE, 2, 28), on_iteration=lambda iteration, loss: reported.append((iteration, loss))
    )
    assert [iteration for iteration, _ in reported] == list(range(28))
    assert reported[-1][1] < 0.6 * reported[0][1]


def test_the_network_is_left_as_it_came(hand_written):
    before = copy.deepcopy(hand_written.train())
    zeroq.distill_natural(hand_written, SHAPE, 2, 2)
    for module, old in zip(hand_written.modules(), before.modules(), strict=True):
        assert module.training == old.training
        assert module.__dict__.keys() == old.__dict__.keys()
    for tensor, old in zip(hand_written.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(tensor, old)


@pytest.mark.parametrize("shape", [(1, 17, 23), (4, 12, 9)])
def test_other_channels_and_sides(shape):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(shape[0], 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    network = estimate_statistics(layers, shape)
    assert zeroq.distill_natural(network, shape, 3, 4).shape == (3, *shape)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"count": 0}, "count"),
        ({"iterations": 0}, "iterations"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"statistics": "both"}, "statistics"),
        ({"input_shape": (3, 16)}, "input shape"),
        ({"input_shape": (1, 16, 16)}, "does not accept images of shape"),
        ({"limits": (0, 1)}, "limits must be two sequences"),
    ],
)
def test_wrong_arguments(hand_written, arguments, sentence):
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.distill_natural(hand_written, **{"input_shape": SHAPE, "iterations": 1, **arguments})


def test_no_batch_norm(no_norm):
    with pytest.raises(zeroq.ZeroQError, match=r"no BatchNorm.*gaussian"):
        zeroq.distill_natural(no_norm, SHAPE)


def test_divergence_names_the_iteration_and_the_learning_rate(hand_written):
    hand_written.norm.running_var[0] = torch.nan
    with pytest.raises(zeroq.DistillationDivergedError, match=r"iteration 0: .* learning rate 0.1"):
        zeroq.distill_natural(hand_written, SHAPE, 2, 2)
