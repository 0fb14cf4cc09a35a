"""The program that distillation is timed against."""

import copy

import torch

import zeroq
from experiments.benchmarks.published_distillation import distill_as_published
from tests.zeroq.distillation.networks import network

SHAPE = (3, 16, 16)


def test_the_published_recipe_as_published():
    """Two programs of one recipe, with which others are compared."""
    model = network("plain")
    before = copy.deepcopy(model)
    images = distill_as_published(model, SHAPE, 2, 4, seed=3)
    same = zeroq.distill(model, SHAPE, 2, 4, seed=3, eps=1e-6)
    torch.testing.assert_close(images, same, rtol=1e-3, atol=1e-3)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), before.parameters(), strict=True))
    assert not any(module._forward_hooks for module in model.modules())
