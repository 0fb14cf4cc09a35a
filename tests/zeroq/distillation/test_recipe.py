"""Recipes by name."""

import torch

import zeroq
from zeroq.distillation.recipe import recipes

SHAPE = (3, 16, 16)


def test_a_recipe_by_name(hand_written):
    results = {}
    for recipe in recipes():
        arguments = {"recipe": recipe, "count": 2, "iterations": 3, "mixed": False}
        results[recipe] = zeroq.zero_shot_quantize(hand_written, SHAPE, 8, 8, **arguments)
    assert torch.equal(results["published"].images, zeroq.distill(hand_written, SHAPE, 2, 3))
    assert torch.equal(results["fast"].images, zeroq.distill_fast(hand_written, SHAPE, 2, 3))
    assert torch.equal(results["natural"].images, zeroq.distill_natural(hand_written, SHAPE, 2, 3))
    assert len(results["fast"].report["distill_losses"]) == 3
