"""The recipes of the published code's history, each against a loop of its own in float64."""

from collections.abc import Callable
from itertools import pairwise

import numpy
import pytest
import torch
from torch import nn

import zeroq
from zeroq.distillation.published_2020_01 import distill_2020_01
from zeroq.distillation.published_detection import distill_for_detection

SHAPE, COUNT = (2, 9, 9), 3


@pytest.fixture
def network() -> nn.Sequential:
    """Two BatchNorm layers of 5 and 4 channels, whose own eps is not the published one."""
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5, eps=0.1), nn.Tanh(), nn.Conv2d(5, 4, 3))
    network.append(nn.BatchNorm2d(4, eps=1e-3))
    for index, farthest in ((1, 2.5), (4, 1)):
        network[index].running_mean.uniform_(farthest - 1, farthest)
        network[index].running_var.uniform_(0.5, 2)
    return network.eval()


def by_channels(x: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(μ̃ − μ)² + (σ̃ − σ)² of each image and channel, eps 1e-6 under the root."""
    flat = x.flatten(2)
    centred = flat - flat.mean(2, keepdim=True)
    deviation = (centred.square().sum(2) / (flat.shape[2] - 1) + 1e-6).sqrt()
    return (flat.mean(2) - mean) ** 2 + (deviation - std) ** 2


def reference(network: nn.Sequential, steps: int, enough: float) -> tuple[torch.Tensor, list[float]]:
    """Adam by its formulas, with a learning rate of 0.1, and each iteration's loss."""
    network = network.double()
    generator = torch.Generator().manual_seed(0)
    images = (127.5 / 5418.75 * (2 * torch.rand(COUNT, *SHAPE, generator=generator) - 1)).double()
    first, second, losses = torch.zeros_like(images), torch.zeros_like(images), []
    for step in range(1, steps + 1):
        images.requires_grad_()
        loss = by_channels(images, torch.tensor(0.0), torch.tensor(1.0)).sum() / COUNT
        x = images
        for layer in network:
            if isinstance(layer, nn.BatchNorm2d):
                squares = by_channels(x, layer.running_mean, (layer.running_var + 1e-6).sqrt())
                loss = loss + squares.sum() / layer.num_features
            x = layer(x)
        (gradient,) = torch.autograd.grad(loss, images)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        scaled = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        images = (images - 0.1 * scaled).detach()
        losses.append(loss.item())
        if losses[-1] <= enough:
            break
    return images, losses


def traced(distil: Callable[..., torch.Tensor], *arguments, **settings) -> tuple[torch.Tensor, list[float]]:
    losses: list[float] = []
    return distil(*arguments, on_iteration=lambda iteration, loss: losses.append(loss), **settings), losses


def test_layers_count_by_their_channels_until_the_loss_is_low_enough(network):
    images, losses = traced(distill_2020_01, network, SHAPE, COUNT)
    expected, expected_losses = reference(network, 500, enough=5 * 3)  # two layers, and one more
    assert 1 < len(losses) == len(expected_losses) < 500
    assert losses[-1] <= 15 < losses[-2]
    numpy.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    torch.testing.assert_close(images.double(), expected, rtol=1e-3, atol=1e-3)


def test_the_learning_rate_falls_without_progress_and_for_detectors_stays(network):
    """No values of tanh have a mean of 50, so that the loss soon stops falling."""
    network[4].running_mean.fill_(50.0)
    network[3] = nn.Conv2d(5, 4, 1, bias=False)
    network.insert(4, nn.Tanh())

    def steps(distil: Callable[..., torch.Tensor]) -> list[float]:
        seen: list[torch.Tensor] = []
        handle = network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
        distil(network, SHAPE, 1, 250)
        handle.remove()
        return [(after - before).abs().max().item() for before, after in pairwise(seen)]

    falling, constant = steps(distill_2020_01), steps(distill_for_detection)
    assert falling[:100] == constant[:100]
    assert falling[-1] < constant[-1] / 5


def test_detectors_have_ten_iterations_and_no_schedule(network):
    images, losses = traced(distill_for_detection, network, SHAPE, COUNT)
    expected, expected_losses = reference(network, 10, enough=0)
    numpy.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    torch.testing.assert_close(images.double(), expected, rtol=1e-3, atol=1e-3)
    assert distill_for_detection(network.float(), SHAPE).shape == (1, *SHAPE)


def test_the_published_eps_is_the_only_difference(network):
    how = {"recipe": "published_2020_02", "count": 2, "iterations": 3, "mixed": False}
    network.append(nn.Flatten()).append(nn.Linear(4 * 5 * 5, 3))
    images = zeroq.zero_shot_quantize(network, SHAPE, 8, 8, **how).images
    assert torch.equal(images, zeroq.distill(network, SHAPE, 2, 3, eps=1e-6))
    assert not torch.equal(images, zeroq.distill(network, SHAPE, 2, 3))


def test_together_layers_still_count_by_their_channels(network):
    """One step from the same start: its loss is that of one image that all are."""
    images, losses = traced(distill_2020_01, network, SHAPE, COUNT, 1, statistics="batch")
    assert images.shape == (COUNT, *SHAPE)
    generator = torch.Generator().manual_seed(0)
    start = (127.5 / 5418.75 * (2 * torch.rand(COUNT, *SHAPE, generator=generator) - 1)).transpose(0, 1)[None]
    expected = by_channels(start, torch.tensor(0.0), torch.tensor(1.0)).sum()
    x = start[0].transpose(0, 1)
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.BatchNorm2d):
                together = x.transpose(0, 1)[None]
                expected += by_channels(together, layer.running_mean, (layer.running_var + 1e-6).sqrt()).mean()
            x = layer(x)
    assert losses == [pytest.approx(expected.item(), rel=1e-5)]
