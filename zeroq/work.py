"""How much work a budget of seconds buys: how many images are distilled, of which size, for how long."""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from numbers import Real
from typing import Any

import torch
from torch import nn

from zeroq.distillation.recipe import Distillation, recipe_by_name, recipes
from zeroq.errors import ZeroQError
from zeroq.images import gaussian_images
from zeroq.layers import WeightedLayer, weighted_layers
from zeroq.modules import evaluating, forward, model_device
from zeroq.rounding.columns import weight_rows

WHOLE, HALF = 1, 0.5
# Of an image's side in pixels: halves of smaller images are too small for a network's pools.
LARGEST_WHOLE = 128
# What a time is predicted from is timed with so many images.
TIMED_IMAGES = 4
# Of all that follows distillation, fitted on ResNet18, ResNet50 and MobileNetV2: forward passes of the images.
FORWARDS = 40
# Of sensitivities and compensated rounding together: products of each layer's weights with its inputs, eliminations of
# its inputs, and seconds for each input, one after the other.
PRODUCTS, ELIMINATIONS, INPUT_SECONDS = 14, 6, 1e-4
# Predictions are to be kept, by a machine that others use too.
RESERVE = 0.8


@dataclass(frozen=True)
class Work:
    """``count`` images, ``share`` of the network's own height and width, distilled for so many ``iterations``."""

    count: int
    share: float
    iterations: int

    def of(self, distillation: Distillation, input_shape: tuple[int, int, int]) -> Distillation:
        """A distillation with this work in it."""
        _, height, width = input_shape
        size = None if self.share == WHOLE else (round(height * self.share), round(width * self.share))
        return replace(distillation, count=self.count, size=size, iterations=self.iterations)


# What is worth the most first: more images, then more iterations, then larger images.
LADDER = (
    Work(8, HALF, 10),
    Work(16, HALF, 20),
    Work(32, HALF, 20),
    Work(32, HALF, 50),
    Work(32, WHOLE, 50),
    Work(32, WHOLE, 150),
)

MOST_IMAGES = max(work.count for work in LADDER)


@dataclass(frozen=True)
class Costs:
    """Seconds on this machine, for a network: of an image's ``iteration`` and ``forward`` by its share of the size, and
    of ``rounding`` by the share and the number of images.
    """

    iteration: dict[float, float]
    forward: dict[float, float]
    rounding: Callable[[float, int], float]

    def seconds(self, work: Work) -> float:
        """What some work takes, with all that follows it."""
        images = work.iterations * self.iteration[work.share] + FORWARDS * self.forward[work.share]
        return work.count * images + self.rounding(work.share, work.count)


def check_seconds(seconds: float, distillation: Distillation) -> None:
    """Raise ZeroQError for a budget that is no time, or that does not go with what else is chosen."""
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not seconds > 0:
        raise ZeroQError(f"seconds is a budget of time and must be positive, not {seconds!r}")
    if not recipe_by_name(distillation.recipe).anneals:
        fitting = " or ".join(repr(name) for name, recipe in recipes().items() if recipe.anneals)
        raise ZeroQError(
            f"seconds chooses the number of iterations, and recipe {distillation.recipe!r} has its own; leave seconds "
            f"out, or choose recipe={fitting}"
        )
    if distillation.iterations is not None or distillation.size is not None:
        raise ZeroQError("seconds chooses the iterations and the size of images; leave those out, or seconds")


def work_within(
    seconds: float, model: nn.Module, input_shape: tuple[int, int, int], distillation: Distillation, *, rounds: bool
) -> tuple[Distillation, dict[str, Any]]:
    """The distillation that a budget is enough for, and what to report of it.

    At least the least work there is, and at most the ``count`` of images of the given ``distillation``. The time that
    this takes to find out is a part of the budget. ``rounds``: weights are rounded by what their inputs are.

    The report holds the ``work`` chosen, and the ``next_work`` that the seconds are not enough for with its predicted
    ``seconds``, or None.
    """
    start = time.perf_counter()
    costs = costs_of(model, input_shape, distillation, rounds=rounds)
    rungs = [replace(work, count=min(work.count, distillation.count)) for work in LADDER]
    if HALF not in costs.forward:
        rungs = [replace(work, share=WHOLE) for work in rungs]
    rungs = list(dict.fromkeys(rungs))
    left = RESERVE * (seconds - (time.perf_counter() - start))
    enough = [index for index, work in enumerate(rungs) if costs.seconds(work) <= left]
    taken = max(enough, default=0)
    report: dict[str, Any] = {"work": asdict(rungs[taken]), "next_work": None}
    if taken + 1 < len(rungs):
        following = rungs[taken + 1]
        report["next_work"] = asdict(following) | {"seconds": costs.seconds(following)}
    return rungs[taken].of(distillation, input_shape), report


def shares_of_size(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[float, ...]:
    """The shares of its own image size that a network takes: half of it too, where that is large enough."""
    if min(input_shape[1:]) <= LARGEST_WHOLE:
        return (WHOLE,)
    halved = Work(1, HALF, 1).of(Distillation(), input_shape).image_shape(input_shape)
    try:
        with evaluating(model), torch.no_grad():
            forward(model, gaussian_images(halved, 1).to(model_device(model)))
    except ZeroQError:  # a classifier for maps of one size
        return (WHOLE,)
    return (HALF, WHOLE)


def with_size(distillation: Distillation, model: nn.Module, input_shape: tuple[int, int, int]) -> Distillation:
    """The distillation with half the network's own size, where its recipe and the network take that."""
    halves = distillation.size is None and recipe_by_name(distillation.recipe).halves
    if not halves or HALF not in shares_of_size(model, input_shape):
        return distillation
    return Work(distillation.count, HALF, distillation.total).of(distillation, input_shape)


def costs_of(model: nn.Module, input_shape: tuple[int, int, int], distillation: Distillation, *, rounds: bool) -> Costs:
    """What work costs, timed with a few images; ``rounds``: weights are rounded by what their inputs are."""
    device = model_device(model)
    iteration, passes, places = {}, {}, {}
    for share in shares_of_size(model, input_shape):
        short = [Work(TIMED_IMAGES, share, count).of(distillation, input_shape) for count in (1, 3)]
        first, third = (
            _seconds(partial(each.run, model, input_shape, lambda done, loss: None), device) for each in short
        )
        iteration[share] = max(third - first, third / 4) / 2 / TIMED_IMAGES
        images = gaussian_images(short[0].image_shape(input_shape), TIMED_IMAGES).to(device)
        with evaluating(model), torch.no_grad():
            passes[share] = _seconds(partial(forward, model, images), device) / TIMED_IMAGES
        places[share] = places_of_layers(model, images[:1])
    shapes = {name: weight_rows(layer, layer.weight).shape for name, layer in weighted_layers(model).items()}
    square = torch.ones(1024, 1024, device=device)
    product = _seconds(lambda: square @ square, device) / 1024**3

    def rounding(share: float, count: int) -> float:
        if not rounds:
            return 0.0
        total = 0.0
        for name, (groups, rows, inputs) in shapes.items():
            seen = min(count * places[share][name], inputs)  # moments of more places are a matrix of inputs
            products = PRODUCTS * rows * seen * inputs + ELIMINATIONS * seen**2 * inputs
            total += groups * products * product + inputs * INPUT_SECONDS
        return total

    return Costs(iteration, passes, rounding)


def places_of_layers(model: nn.Module, image: torch.Tensor) -> dict[str, int]:
    """How many outputs of each channel a Conv or Linear layer has for one image, by the layer's name."""
    places: dict[str, int] = defaultdict(int)

    def count(name: str, layer: WeightedLayer, output: torch.Tensor) -> None:
        channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        places[name] += output.numel() // channels

    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for name, layer in weighted_layers(model).items():
            hook = lambda layer, inputs, output, name=name: count(name, layer, output)  # noqa: E731
            hooks.enter_context(layer.register_forward_hook(hook))
        forward(model, image)
    return places


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """The quicker of two: the first call may have to prepare."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
