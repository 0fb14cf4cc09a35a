"""What the recipes that use ``StatisticsMatching`` have in common: what they keep to, leave alone and refuse."""

import copy
import inspect

import pytest
import torch

import zeroq
from zeroq.distillation.fast import FARTHEST_PIXEL

SHAPE = (3, 16, 16)


@pytest.fixture(params=[zeroq.distill_fast, zeroq.distill_natural], ids=["fast", "natural"])
def distil(request):
    return request.param


def test_same_seed_same_images(distil, hand_written):
    first, second, other = (distil(hand_written, SHAPE, 2, 5, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (2, *SHAPE)
    assert first.dtype == torch.float32
    assert not first.requires_grad
    assert first.grad is None


def test_pixels_keep_to_limits(distil, hand_written):
    images = distil(hand_written, SHAPE, 2, 60, learning_rate=3)
    assert images.abs().max() == FARTHEST_PIXEL
    lowest, highest = (-0.5, -0.2, -0.1), (0.3, 0.2, 0.4)
    images = distil(hand_written, SHAPE, 2, 20, limits=(lowest, highest))
    for channel, limits in enumerate(zip(lowest, highest, strict=True)):
        assert tuple(images[:, channel].aminmax()) == pytest.approx(limits)


def test_the_network_is_left_as_it_came(distil, hand_written):
    hand_written.train()
    hand_written.norm.eval()
    hooked = []
    hand_written.norm.register_forward_hook(lambda *given: hooked.append(1))
    before = copy.deepcopy(hand_written)
    distil(hand_written, SHAPE, 2, 2)
    for module, old in zip(hand_written.modules(), before.modules(), strict=True):
        assert module.training == old.training
        assert module.__dict__.keys() == old.__dict__.keys()  # no forward of another's
        assert len(module._forward_pre_hooks) == 0
    for tensor, old in zip(hand_written.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(tensor, old)
        assert tensor.stride() == old.stride()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in hand_written.parameters())


def test_inside_inference_mode(distil, hand_written):
    with torch.inference_mode():
        images = distil(hand_written, SHAPE, 2, 2)
    assert images.isfinite().all()


def test_half_precision(distil, hand_written):
    half = copy.deepcopy(hand_written).bfloat16()
    losses = []
    distil(half, SHAPE, 2, 60, on_iteration=lambda iteration, loss: losses.append(loss))
    assert losses[-1] < losses[0] / 2


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
def test_wrong_arguments(distil, hand_written, arguments, sentence):
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        distil(hand_written, **{"input_shape": SHAPE, "iterations": 1, **arguments})


def test_no_batch_norm(distil, no_norm):
    with pytest.raises(zeroq.ZeroQError, match=r"no BatchNorm.*gaussian"):
        distil(no_norm, SHAPE)


def test_divergence_names_the_iteration_and_the_learning_rate(distil, hand_written):
    hand_written.norm.running_var[0] = torch.nan
    rate = inspect.signature(distil).parameters["learning_rate"].default
    with pytest.raises(zeroq.DistillationDivergedError, match=rf"iteration 0: .* learning rate {rate}"):
        distil(hand_written, SHAPE, 2, 2)
