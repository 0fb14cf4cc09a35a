"""The fast recipe: how far it gets, what it leaves alone, how it fails."""

import copy

import pytest
import torch

import zeroq
from zeroq.distillation.fast import FARTHEST_PIXEL, REPORT_EVERY
from zeroq.networks import zoo

SHAPE = (3, 16, 16)


def test_reaches_the_loss_of_the_published_recipe():
    """Its 500 iterations reach 0.4478 with 32 images of seed 0 (fashion-mobilenetv2,zeroq,w8a8,seed=0)."""
    mobilenet = zoo.load("mobilenetv2")
    images = zeroq.distill_fast(mobilenet.module, mobilenet.input.shape, count=4)
    assert zeroq.batch_norm_loss(mobilenet.module, images) < 0.4478


def test_same_seed_same_images(hand_written):
    first, second, other = (zeroq.distill_fast(hand_written, SHAPE, 2, 5, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.shape == (2, *SHAPE)
    assert first.dtype == torch.float32
    assert not first.requires_grad
    assert first.grad is None


def test_pixels_keep_to_limits(hand_written):
    images = zeroq.distill_fast(hand_written, SHAPE, 2, 60, learning_rate=3)
    assert images.abs().max() == FARTHEST_PIXEL
    lowest, highest = (-0.5, -0.2, -0.1), (0.3, 0.2, 0.4)
    images = zeroq.distill_fast(hand_written, SHAPE, 2, 20, limits=(lowest, highest))
    for channel, limits in enumerate(zip(lowest, highest, strict=True)):
        assert tuple(images[:, channel].aminmax()) == pytest.approx(limits)


def test_every_loss_is_reported_in_order(hand_written):
    reported = []
    iterations = REPORT_EVERY + 3
    images = zeroq.distill_fast(
        *(hand_written, SHAPE, 2, iterations), on_iteration=lambda iteration, loss: reported.append((iteration, loss))
    )
    assert [iteration for iteration, _ in reported] == list(range(iterations))
    assert reported[-1][1] < reported[0][1] / 2
    assert zeroq.batch_norm_loss(hand_written, images) == pytest.approx(reported[-1][1], rel=0.1)


def test_the_network_is_left_as_it_came(hand_written):
    hand_written.train()
    hand_written.norm.eval()
    hooked = []
    hand_written.norm.register_forward_hook(lambda *given: hooked.append(1))
    before = copy.deepcopy(hand_written)
    zeroq.distill_fast(hand_written, SHAPE, 2, 2)
    for module, old in zip(hand_written.modules(), before.modules(), strict=True):
        assert module.training == old.training
        assert module.__dict__.keys() == old.__dict__.keys()  # no forward of another's
        assert len(module._forward_pre_hooks) == 0
    for tensor, old in zip(hand_written.state_dict().values(), before.state_dict().values(), strict=True):
        assert torch.equal(tensor, old)
        assert tensor.stride() == old.stride()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in hand_written.parameters())


def test_inside_inference_mode(hand_written):
    with torch.inference_mode():
        images = zeroq.distill_fast(hand_written, SHAPE, 2, 2)
    assert images.isfinite().all()


def test_half_precision(hand_written):
    half = copy.deepcopy(hand_written).bfloat16()
    losses = []
    zeroq.distill_fast(half, SHAPE, 2, 60, on_iteration=lambda iteration, loss: losses.append(loss))
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
def test_wrong_arguments(hand_written, arguments, sentence):
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.distill_fast(hand_written, **{"input_shape": SHAPE, "iterations": 1, **arguments})


def test_no_batch_norm(no_norm):
    with pytest.raises(zeroq.ZeroQError, match=r"no BatchNorm.*gaussian"):
        zeroq.distill_fast(no_norm, SHAPE)


def test_divergence_names_the_iteration_and_the_learning_rate(hand_written):
    hand_written.norm.running_var[0] = torch.nan
    with pytest.raises(zeroq.DistillationDivergedError, match=r"iteration 0: .* learning rate 0.5"):
        zeroq.distill_fast(hand_written, SHAPE, 2, 2)
