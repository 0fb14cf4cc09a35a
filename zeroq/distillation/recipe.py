"""A recipe: one way to distil images, found by its name; and what every recipe must refuse.

A module of this package that defines ``RECIPE`` is a recipe: a new one is one file.
"""

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from math import isfinite

import torch
from torch import nn

from zeroq.distillation.batch_norm import Statistics, check_statistics
from zeroq.errors import ZeroQError
from zeroq.images import Limits, check_count

# Adam divides by its bias correction, and float32 overflows above; below, no pixel near 1 ever changes.
SMALLEST_LEARNING_RATE, LARGEST_LEARNING_RATE = 1e-8, 1e30


class DistillationDivergedError(ZeroQError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Recipe:
    """A way to distil images; ``distil`` has the arguments of ``zeroq.distill``, the numbers are its defaults.

    ``anneals``: the learning rate has fallen to 0 at the last iteration, however many there are. ``halves``: images
    are half as large as the network's own, where those are large and the network takes smaller ones.
    """

    name: str
    distil: Callable[..., torch.Tensor]
    iterations: int
    learning_rate: float = 0.5
    anneals: bool = False
    count: int = 32
    halves: bool = False


@cache
def recipes() -> dict[str, Recipe]:
    """Every recipe by its name."""
    package = import_module(__package__)
    modules = (import_module(f"{__package__}.{found.name}") for found in pkgutil.iter_modules(package.__path__))
    found = [module.RECIPE for module in modules if hasattr(module, "RECIPE")]
    return {recipe.name: recipe for recipe in found}


def recipe_by_name(name: str) -> Recipe:
    """A recipe; raises ZeroQError for one that does not exist."""
    if not isinstance(name, str) or name not in recipes():
        raise ZeroQError(f"recipe must be one of {', '.join(recipes())}, not {name!r}")
    return recipes()[name]


@dataclass(frozen=True)
class Distillation:
    """How images are distilled: the arguments of ``zeroq.distill``, for a recipe by its name.

    ``iterations=None`` and ``learning_rate=None`` are the recipe's own. ``size`` is the images' height and width in
    pixels, one number where they are equal; None is the network's own, or half of it (``halves``).
    """

    recipe: str = "published"
    count: int = 32
    iterations: int | None = None
    seed: int = 0
    statistics: Statistics = "image"
    learning_rate: float | None = None
    limits: Limits | None = None
    size: int | tuple[int, int] | None = None

    @property
    def total(self) -> int:
        """How many iterations there will be."""
        return recipe_by_name(self.recipe).iterations if self.iterations is None else self.iterations

    @property
    def rate(self) -> float:
        """The learning rate that there will be."""
        return recipe_by_name(self.recipe).learning_rate if self.learning_rate is None else self.learning_rate

    def image_shape(self, input_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """(channels, height, width) of the images for a network of this input, in pixels."""
        if self.size is None:
            return input_shape
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return input_shape[0], height, width

    def check(self) -> None:
        """Raise ZeroQError for a recipe that does not exist, and for what no recipe can work with."""
        recipe_by_name(self.recipe)
        sizes = self.size if isinstance(self.size, tuple) else (self.size,)
        if self.size is not None and not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise ZeroQError(f"size is a number of pixels, not {self.size}")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ZeroQError(f"seed must be a whole number from 0 to 2⁶³ − 1, not {self.seed}")
        check_settings(self.count, self.statistics, self.total, self.rate)

    def run(
        self, model: nn.Module, input_shape: tuple[int, int, int], on_iteration: Callable[[int, float], None]
    ) -> torch.Tensor:
        """The images: float32 [count, channels, height, width]; raises as ``zeroq.distill`` does."""
        return recipe_by_name(self.recipe).distil(
            model,
            self.image_shape(input_shape),
            self.count,
            self.total,
            seed=self.seed,
            statistics=self.statistics,
            learning_rate=self.rate,
            limits=self.limits,
            on_iteration=on_iteration,
        )


def check_settings(count: int, statistics: str, iterations: int, learning_rate: float) -> None:
    """Raise ZeroQError for what no recipe can work with."""
    check_count(count)
    check_statistics(statistics)
    if not isinstance(iterations, int) or iterations < 1:
        raise ZeroQError(f"iterations must be at least 1, a whole number, not {iterations}")
    smallest, largest = SMALLEST_LEARNING_RATE, LARGEST_LEARNING_RATE
    if not isinstance(learning_rate, int | float) or not smallest <= learning_rate <= largest:
        raise ZeroQError(f"learning_rate must be at least {smallest:g} and at most {largest:g}, not {learning_rate}")


def check_loss(value: float, iteration: int, learning_rate: float) -> None:
    """Raise DistillationDivergedError for a loss that is NaN or infinite."""
    if not isfinite(value):
        raise DistillationDivergedError(
            f"distillation diverged at iteration {iteration}: the BatchNorm loss is {value} with learning rate "
            f"{learning_rate}; use a smaller learning rate"
        )


def check_finite(images: torch.Tensor, learning_rate: float) -> None:
    """Raise DistillationDivergedError for images of a last step that went too far; its loss is never measured."""
    if not images.isfinite().all():
        raise DistillationDivergedError(
            f"distillation diverged at its last iteration with learning rate {learning_rate}; use a smaller one"
        )
