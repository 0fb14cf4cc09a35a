"""Quantize a network in one call; each is a short form of ``zeroq.pipeline.quantize_by_method``."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from zeroq.baselines.dfq import Steps
from zeroq.distillation.batch_norm import Statistics
from zeroq.distillation.recipe import Distillation, recipe_by_name
from zeroq.images import Limits, check_images, shape_of
from zeroq.methods import ZEROQ, method_by_name
from zeroq.pipeline import QuantizationResult, quantize_by_method
from zeroq.quantization.affine import WeightRange
from zeroq.quantization.convert import Placement
from zeroq.settings import Settings
from zeroq.stages import RunStage, run_plainly
from zeroq.work import MOST_IMAGES


def zero_shot_quantize(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    weight_bits: float | Mapping[str, int] = 4,
    activation_bits: float | Mapping[str, int] = 8,
    mixed: bool | None = None,
    *,
    method: str = "zeroq+",
    images: torch.Tensor | None = None,
    recipe: str | None = None,
    count: int | None = None,
    iterations: int | None = None,
    seed: int = 0,
    statistics: Statistics = "image",
    learning_rate: float | None = None,
    limits: Limits | None = None,
    size: int | None = None,
    seconds: float | None = None,
    run_stage: RunStage = run_plainly,
    **settings: Any,
) -> QuantizationResult:
    """Quantize a trained network without any data.

    Args:
        model: a trained network, in any mode, on any device; it is left as it came.
        input_shape: (channels, height, width) in pixels.
        weight_bits: the mean of a mixed-precision plan if ``mixed``, else every layer's width or a plan.
        activation_bits: 2…8, or 32 for float, or a plan; with ``mixed_activations=True`` the mean of one.
        mixed: choose each layer's bits; None: where the method measures sensitivities.
        method: ``zeroq+``, the best that is known; ``zeroq``, the paper's; or a baseline by its name, such as ``dfq``.
        images: your own, float [N, C, H, W] and normalised, for method ``real``, or instead of the method's.
        recipe: ``published`` (``distill``), ``fast`` (``distill_fast``), ``natural`` (``distill_natural``), or of the
            published code's history ``published_2020_01``, ``published_2020_02`` or ``published_detection``; None: the
            method's own. ``count`` to ``limits`` are their arguments, None is the recipe's own number.
        size: the height and width of distilled images in pixels; None is the network's own, and for ``natural`` half of
            it where that is above 128 and the network takes such images.
        seconds: a budget of time, which chooses iterations, size and number of images, at most ``count``, before
            anything is distilled: the same ``report["work"]`` gives the same result. The report also says what more
            time would buy (``next_work``) and how long each stage took (``seconds``). Where even the least work takes
            longer, so does the call.
        settings: the other fields of ``Settings``, such as ``output``, which says what is compared of the network's
            output (``zeroq.mixed_precision.outputs``).

    Raises:
        ZeroQError: as the stages do, and before any work for wrong settings and for a network whose sensitivities
            cannot be measured, if a plan needs them: with ``mixed=False`` any output will do, and one that holds
            nothing to compare leaves the result without ``sensitivity``.
    """
    chosen = method_by_name(method)
    recipe = recipe or chosen.recipe
    if count is None:
        count = recipe_by_name(recipe).count if seconds is None else MOST_IMAGES
    return quantize_by_method(
        model,
        input_shape,
        chosen,
        chosen.settings(weight_bits, activation_bits, mixed, **settings),
        distillation=Distillation(recipe, count, iterations, seed, statistics, learning_rate, limits, size),
        images=images,
        limits=limits,
        seconds=seconds,
        run_stage=run_stage,
    )


def quantize_with_images(
    model: nn.Module, images: torch.Tensor, settings: Settings, *, run_stage: RunStage = run_plainly
) -> QuantizationResult:
    """Quantize a network with calibration images of any origin, float [N, C, H, W] and normalised.

    Sensitivities are measured for uniform widths too: they tell which layer is to blame. Raises ZeroQError as
    the stages do, for wrong settings before any work, and for analytic bias correction, which is a part of DFQ.
    """
    check_images(images)
    return quantize_by_method(model, shape_of(images), ZEROQ, settings, images=images, run_stage=run_stage)


def quantize_naively(
    model: nn.Module,
    weight_bits: int,
    activation_bits: int,
    *,
    placement: Placement = "layer_inputs",
    per_channel: bool = False,
    symmetric: bool | None = None,
    weight_range: WeightRange = "with_zero",
) -> QuantizationResult:
    """The naive baseline: one width, by default one weight range a tensor, each batch's own activation range."""
    naive = method_by_name("naive")
    settings = naive.settings(
        weight_bits,
        activation_bits,
        placement=placement,
        per_channel=per_channel,
        symmetric=symmetric,
        weight_range=weight_range,
    )
    return quantize_by_method(model, None, naive, settings)


def quantize_with_dfq(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    settings: Settings,
    steps: Steps = Steps(),  # noqa: B008 immutable
    *,
    limits: Limits | None = None,
    images: torch.Tensor | None = None,
    ranges_from_images: bool = False,
    run_stage: RunStage = run_plainly,
) -> QuantizationResult:
    """DFQ: equalized weights, activation ranges from BatchNorm's statistics, corrected biases.

    As published: ``Settings(8, 8, mixed=False, per_channel=False, bias_correction="analytic")``. ``limits`` are those
    of ``distill``: the ends of the image's own range. ``ranges_from_images`` takes ranges (and sensitivities) from
    ``images`` instead, as ``quantize_with_images`` does; ``empirical`` bias correction needs images too. The plan names
    the layers as the model does. Source: Nagel et al., ICCV 2019.

    A state dict of the result fits what the same call makes of a fresh copy of the network.

    Where no rule tells what an operation does to statistics, what it gives is measured on Gaussian noise, layers behind
    it have no analytic bias correction, and ``report["skipped_steps"]`` names both.

    Raises ZeroQError where the network cannot be traced, for mixed precision without images, and for images or a
    percentile that nothing would use.
    """
    method = replace(method_by_name("dfq"), steps=steps, ranges="images" if ranges_from_images else "statistics")
    return quantize_by_method(model, input_shape, method, settings, images=images, limits=limits, run_stage=run_stage)
