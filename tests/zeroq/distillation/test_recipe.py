"""Recipes by name."""

import inspect

import pytest
import torch
import yaml

import zeroq
from tests.paths import ROOT
from zeroq.distillation.recipe import Distillation, recipes

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


def test_a_recipe_s_numbers_are_its_function_s():
    """A run by the recipe's name and a call of the function do the same."""
    for recipe in recipes().values():
        defaults = inspect.signature(recipe.distil).parameters
        assert recipe.iterations == defaults["iterations"].default
        assert recipe.learning_rate == defaults["learning_rate"].default


def test_the_command_line_repeats_a_recipe_s_numbers():
    """Its ``natural`` is a longer one, and ``quick`` the library's."""
    folder = ROOT / "conf" / "distill"

    def numbers(name: str) -> dict:
        return yaml.safe_load((folder / f"{name}.yaml").read_text())

    for name, recipe in recipes().items():
        own = numbers("published") | numbers(name) | (numbers("quick") if name == "natural" else {})
        assert (own["recipe"], own["iterations"]) == (name, recipe.iterations)
        assert own["learning_rate"] == recipe.learning_rate


def test_what_is_not_said_is_what_the_functions_have():
    settings = Distillation()
    settings.check()
    defaults = inspect.signature(zeroq.distill).parameters
    for name in ("count", "seed", "statistics", "limits"):
        assert getattr(settings, name) == defaults[name].default


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_seeds_that_torch_takes(seed):
    Distillation(seed=seed).check()


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_torch_does_not_take_are_refused(seed, hand_written):
    with pytest.raises(zeroq.ZeroQError, match=r"seed must be a whole number from 0 to 2⁶³ − 1"):
        zeroq.zero_shot_quantize(hand_written, SHAPE, 8, 8, seed=seed, mixed=False)
