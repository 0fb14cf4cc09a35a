"""The ways to distil images, by name."""

from collections.abc import Callable
from typing import Literal, get_args

import torch

from zeroq.distillation.fast import distill_fast
from zeroq.distillation.published import distill
from zeroq.errors import ZeroQError

Recipe = Literal["published", "fast"]
# What each distils with, and in how many iterations.
RECIPES: dict[Recipe, tuple[Callable[..., torch.Tensor], int]] = {
    "published": (distill, 500),
    "fast": (distill_fast, 200),
}


def check_recipe(recipe: str) -> None:
    """Raise ZeroQError for a recipe that does not exist."""
    if recipe not in RECIPES:
        raise ZeroQError(f"recipe must be one of {', '.join(get_args(Recipe))}, not {recipe!r}")
