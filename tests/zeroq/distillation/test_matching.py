"""Eq. 3 and its gradient, written by hand, against automatic differentiation in float64."""

import copy
import gc
import weakref
from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.zeroq.distillation.networks import NETWORKS, network
from zeroq.distillation import matching
from zeroq.distillation.batch_norm import batch_norm_inputs, statistics_loss
from zeroq.distillation.matching import StatisticsMatching, has_bfloat16


def exact(model: nn.Module, images: torch.Tensor, statistics: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 3 and its gradient in float64, by automatic differentiation."""
    model, leaf = copy.deepcopy(model).double(), images.double().requires_grad_()
    with batch_norm_inputs(model) as recorded:
        with suppress(AssertionError):
            model(leaf)
        loss = statistics_loss(leaf, recorded, statistics)
    loss.backward()
    return loss.detach(), leaf.grad


@pytest.mark.parametrize("statistics", ["image", "batch"])
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_and_gradient_are_those_of_equation_3(images, name, statistics):
    model = network(name)
    # In float32 a feature beside a ReLU's kink may fall to its other side.
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-3)):
        matching = StatisticsMatching(model.to(dtype), images.to(dtype), statistics)
        for given in (images, images.flip(0) / 2):
            loss, gradient = matching.loss_and_gradient(given.to(dtype))
            expected_loss, expected_gradient = exact(model, given, statistics)
            torch.testing.assert_close(loss.double(), expected_loss, rtol=tolerance, atol=0)
            assert (gradient - expected_gradient).norm() < tolerance * expected_gradient.norm()


@pytest.mark.parametrize("statistics", ["image", "batch"])
def test_relative_distances(hand_written, images, statistics):
    """The mean over each layer's channels of squares over recorded variances, and its gradient, in float64."""
    model, images = hand_written.double(), images.double()
    leaf = images.clone().requires_grad_()
    with batch_norm_inputs(model) as recorded:
        model(leaf)
    places = (2, 3) if statistics == "image" else (0, 2, 3)
    seen = [(leaf, torch.zeros(3), torch.ones(3), 0.0)]
    seen += [(features, norm.running_mean, norm.running_var + norm.eps, norm.eps) for norm, features in recorded]
    expected = 0
    for features, mean, variance, eps in seen:
        deviation = (features.var(places) + eps).sqrt()
        squares = (features.mean(places) - mean).square() + (deviation - variance.sqrt()).square()
        expected = expected + (squares / variance).mean()
    expected.backward()
    loss, gradient = StatisticsMatching(model, images, statistics, relative=True).loss_and_gradient(images)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, leaf.grad)


def test_relative_distances_do_not_depend_on_the_scale_of_features(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=0), nn.ReLU()).eval()
    found = []
    for factor in (1, 100):
        with torch.no_grad():
            model[0].weight *= factor
            model[1].running_var *= factor**2
        found.append(StatisticsMatching(model, images, "image", relative=True).loss_and_gradient(images))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_a_channel_that_hardly_varied_does_not_count_for_all(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    plain, _ = StatisticsMatching(model, images, "image", relative=True).loss_and_gradient(images)
    model[1].running_var[0] = 1e-20
    loss, gradient = StatisticsMatching(model, images, "image", relative=True).loss_and_gradient(images)
    assert loss < 1e4 * plain
    assert gradient.isfinite().all()


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no instructions for bfloat16")
def test_many_products_in_bfloat16(images):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 8, 3), nn.BatchNorm2d(8)
    model = nn.Sequential(*layers).eval()
    loss, gradient = StatisticsMatching(model, images, "image").loss_and_gradient(images)
    expected_loss, expected_gradient = exact(model, images, "image")
    torch.testing.assert_close(loss.double(), expected_loss, rtol=1e-2, atol=0)
    error = (gradient - expected_gradient).norm() / expected_gradient.norm()
    assert 1e-5 < error < 0.05
    assert model[3].weight.dtype == torch.float32


def test_squares_far_from_zero_do_not_cancel(images):
    """A mean of 1,000 deviations leaves 1 bit of float32's variance."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    with torch.no_grad():
        model[0].bias += 1000
        model[1].running_mean += 1000
    loss, gradient = StatisticsMatching(model, images, "image").loss_and_gradient(images)
    expected_loss, expected_gradient = exact(model, images, "image")
    torch.testing.assert_close(loss.double(), expected_loss, rtol=1e-3, atol=0)
    assert (gradient - expected_gradient).norm() < 1e-3 * expected_gradient.norm()


def test_maps_of_another_size(images):
    matching = StatisticsMatching(model := network("hand-written"), images, "image")
    small = images[..., :8, :12]
    torch.testing.assert_close(
        matching.loss_and_gradient(small)[0].double(), exact(model, small, "image")[0], rtol=1e-5, atol=0
    )


def test_nothing_waits_for_the_device(hand_written, images):
    """A number or a condition that the host asks for makes it wait for all that a GPU has queued."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            assert function.overloadpacket is not torch.ops.aten._local_scalar_dense
            return function(*arguments, **named or {})

    matching = StatisticsMatching(hand_written, images, "image")
    with Watch():
        for _ in range(2):
            matching.loss_and_gradient(images)


def test_nothing_of_an_iteration_outlives_it(hand_written, images, monkeypatch):
    """A graph that holds what holds its end would keep every feature: no garbage collection sees through it."""
    alive: list[weakref.ref] = []

    class Watched(matching._Call):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.append(weakref.ref(self))

    monkeypatch.setattr(matching, "_Call", Watched)
    made = StatisticsMatching(hand_written, images, "image")
    for _ in range(3):
        made.loss_and_gradient(images)
    gc.collect()
    assert alive
    assert [reference for reference in alive if reference() is not None] == []


@pytest.mark.parametrize("statistics", ["image", "batch"])
def test_a_channel_without_variance_has_the_gradient_of_its_floor(images, statistics):
    """At the floor of the variance the loss is flat, however far the deviation is from the recorded one."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    still = images.mean((0, 2, 3), keepdim=True).expand_as(images) * +1e-7 * images
    matching = StatisticsMatching(model.double(), still.double(), statistics)
    loss, gradient = matching.loss_and_gradient(still.double())
    expected_loss, expected_gradient = exact(model, still, statistics)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=0)
