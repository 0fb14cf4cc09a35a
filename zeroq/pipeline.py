"""The order of the stages: distil → sensitivity → allocate → quantize → calibrate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import nn

from zeroq.baselines.dfq import (
    Steps,
    correct_biases_analytically,
    prepared,
    set_ranges,
    skipped,
)
from zeroq.baselines.moments import activation_moments
from zeroq.distillation.batch_norm import Statistics
from zeroq.distillation.recipes import RECIPES, Recipe, check_recipe
from zeroq.errors import ZeroQError
from zeroq.graph.tracing import check_traced, trace
from zeroq.images import Limits, check_input_shape, gaussian_images
from zeroq.layers import weighted_layers
from zeroq.mixed_precision.divergence import class_scores
from zeroq.mixed_precision.frontier import ParetoFrontier, budget_bits, pareto_frontier, widths_without_sensitivity
from zeroq.mixed_precision.refine import refine as measure_jointly
from zeroq.mixed_precision.sensitivity import SensitivityTable, sensitivity
from zeroq.modules import evaluating
from zeroq.quantization.affine import FLOAT_BITS
from zeroq.quantization.bias_correction import correct_biases
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import (
    Placement,
    activation_quantizers,
    quantize,
    resolve_weight_bits,
)
from zeroq.quantization.layers import QuantizedWeight
from zeroq.quantization.size import mean_bits, size_mib
from zeroq.settings import Settings

Progress = Callable[[int, int], None]


class RunStage(Protocol):
    """Runs one stage. A caller's own can time it, show ``progress`` (done, total), or return a stored result."""

    def __call__(self, name: str, compute: Callable[[Progress], Any]) -> Any: ...


def run_plainly(name: str, compute: Callable[[Progress], Any]) -> Any:
    """Run a stage and nothing else."""
    return compute(lambda done, total: None)


@dataclass(frozen=True)
class QuantizationResult:
    """A calibrated quantized network and what led to it.

    ``report`` holds plain values: sizes in MiB, mean weight bits, counts of quantized layers and activations,
    the names of the activations that no image reached, and, where images were distilled, the loss of each
    iteration.
    """

    model: nn.Module
    plan: dict[str, int]
    images: torch.Tensor | None = None
    sensitivity: SensitivityTable | None = None
    frontier: ParetoFrontier | None = None
    report: dict[str, Any] = field(default_factory=dict)


def zero_shot_quantize(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    weight_bits: float | Mapping[str, int] = 4,
    activation_bits: int = 8,
    mixed: bool = True,
    *,
    recipe: Recipe = "published",
    count: int = 32,
    iterations: int | None = None,
    seed: int = 0,
    statistics: Statistics = "image",
    learning_rate: float = 0.5,
    limits: Limits | None = None,
    run_stage: RunStage = run_plainly,
    **settings,
) -> QuantizationResult:
    """Quantize a trained network without any data.

    ``weight_bits`` is every layer's width, or the mean of a mixed-precision plan if ``mixed``. ``recipe`` is
    ``published`` (``distill``) or ``fast`` (``distill_fast``), ``count`` to ``limits`` are their arguments
    (``iterations=None`` is the recipe's own number), ``settings`` the other fields of ``Settings``. Raises ZeroQError
    as the stages do, for wrong settings and for a network whose sensitivity cannot be measured before any work.
    """
    check_recipe(recipe)
    chosen = Settings(weight_bits, activation_bits, mixed, **settings)
    chosen.check(model)
    with evaluating(model), torch.no_grad():
        class_scores(model, gaussian_images(input_shape, 1))  # an output of another kind would fail after distillation
    images, losses = distill_recording(
        model,
        input_shape,
        count,
        iterations,
        recipe=recipe,
        seed=seed,
        statistics=statistics,
        learning_rate=learning_rate,
        limits=limits,
        run_stage=run_stage,
    )
    result = quantize_with_images(model, images, chosen, run_stage=run_stage)
    result.report["distill_losses"] = losses
    return result


def distill_recording(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    count: int,
    iterations: int | None = None,
    *,
    recipe: Recipe = "published",
    run_stage: RunStage = run_plainly,
    **settings,
) -> tuple[torch.Tensor, list[float]]:
    """Distilled images and the loss of each iteration; arguments as those of ``distill`` and ``distill_fast``.

    ``iterations=None`` is the recipe's own number. Raises ZeroQError as they do, and for a recipe that does not exist.
    """
    check_recipe(recipe)
    distil, usual = RECIPES[recipe]
    total = usual if iterations is None else iterations

    def compute(progress: Progress) -> tuple[torch.Tensor, list[float]]:
        losses: list[float] = []

        def on_iteration(iteration: int, loss: float) -> None:
            losses.append(loss)
            progress(iteration + 1, total)

        return distil(model, input_shape, count, total, on_iteration=on_iteration, **settings), losses

    return run_stage("distill", compute)


def quantize_with_images(
    model: nn.Module, images: torch.Tensor, settings: Settings, *, run_stage: RunStage = run_plainly
) -> QuantizationResult:
    """Quantize a network with calibration images of any origin.

    Sensitivities are measured for uniform widths too: they tell which layer is to blame. Raises ZeroQError as
    the stages do, for wrong settings before any work, and for analytic bias correction, which is a part of DFQ.
    """
    settings.check(model)
    if settings.bias_correction == "analytic":
        raise ZeroQError(
            "analytic bias correction is a part of DFQ; use quantize_with_dfq, or correct with the images, "
            "bias_correction='empirical'"
        )
    if settings.placement == "integer":
        check_traced(model, trace(model), images.shape[1:])
    granularity = settings.granularity

    def measure(progress: Progress) -> SensitivityTable:
        return sensitivity(
            model,
            images,
            settings.candidates,
            direction=settings.direction,
            mode=settings.sensitivity,
            devices=settings.devices,
            on_layer=progress,
            **granularity,
        )

    omega = run_stage("sensitivity", measure)

    def allocate_bits(progress: Progress) -> tuple[ParetoFrontier, dict[str, int]]:
        if not settings.mixed:
            return pareto_frontier(omega), resolve_weight_bits(model, settings.weight_bits)
        frontier = pareto_frontier(omega, fixed=widths_without_sensitivity(omega, settings.weight_bits))
        if settings.refine:
            measured = measure_jointly(
                model,
                images,
                frontier,
                average_bits=settings.weight_bits,
                count=settings.refine,
                direction=settings.direction,
                on_plan=progress,
                **granularity,
            )
            return frontier, measured[0].plan
        budget = budget_bits(frontier.parameters, average_bits=settings.weight_bits, weights_mib=None)
        return frontier, frontier[frontier.index_within(budget)].plan

    frontier, plan = run_stage("allocate", allocate_bits)

    def quantize_and_calibrate(progress: Progress) -> nn.Module:
        quantized = quantize(model, plan, settings.activation_bits, settings.placement, **granularity)
        calibrate(quantized, images, settings.percentile)
        if settings.bias_correction == "empirical":
            correct_biases(quantized, model, images)
        return quantized

    quantized = run_stage("calibrate", quantize_and_calibrate)
    return QuantizationResult(quantized, plan, images, omega, frontier, describe(model, quantized, plan))


def quantize_naively(
    model: nn.Module,
    weight_bits: int,
    activation_bits: int,
    *,
    placement: Placement = "layer_inputs",
    per_channel: bool = False,
    symmetric: bool | None = None,
) -> QuantizationResult:
    """The naive baseline: one width, by default one weight range a tensor, each batch's own activation range."""
    quantized = quantize(
        model, weight_bits, activation_bits, placement, per_channel=per_channel, symmetric=symmetric, dynamic=True
    )
    plan = resolve_weight_bits(model, weight_bits)
    return QuantizationResult(quantized, plan, report=describe(model, quantized, plan))


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

    Raises ZeroQError where the network cannot be traced, where statistics cannot be followed through it, for mixed
    precision without images, and for images or a percentile that nothing would use.
    """
    check_input_shape(input_shape)
    settings.check(model)
    needs_images = ranges_from_images or settings.bias_correction == "empirical"
    if needs_images and images is None:
        raise ZeroQError("ranges from images and empirical bias correction need images; distil some")
    if images is not None and not needs_images:
        raise ZeroQError("nothing uses the images; set ranges_from_images, or bias_correction='empirical'")
    if settings.percentile is not None and not ranges_from_images:
        raise ZeroQError("a percentile is of ranges from images, not of those that statistics imply")
    if settings.placement == "integer" and not ranges_from_images:
        raise ZeroQError(
            "DFQ's statistics give no ranges for the sums and pools of placement integer; take them from images "
            "(method=zeroq+dfq), or use placement='layer_inputs'"
        )
    if settings.mixed and not ranges_from_images:
        raise ZeroQError("DFQ measures no sensitivities, so it has no mixed precision; take the ranges from images")
    graph = prepared(model, input_shape, steps)
    if not ranges_from_images or settings.bias_correction == "analytic":
        layer_inputs, relu_outputs = activation_moments(graph, input_shape, limits)
    if ranges_from_images:
        empirical = settings.bias_correction == "empirical"
        own = replace(settings, bias_correction="empirical" if empirical else "none")
        result = quantize_with_images(graph, images, own, run_stage=run_stage)
    else:

        def quantize_uniformly(progress: Progress) -> QuantizationResult:
            plan = resolve_weight_bits(graph, settings.weight_bits)
            quantized = quantize(graph, plan, settings.activation_bits, settings.placement, **settings.granularity)
            set_ranges(quantized, layer_inputs, relu_outputs)
            if settings.bias_correction == "empirical":
                correct_biases(quantized, graph, images)
            return QuantizationResult(quantized, plan, images)

        result = run_stage("calibrate", quantize_uniformly)
    if settings.bias_correction == "analytic":
        correct_biases_analytically(result.model, graph, layer_inputs)
    report = describe(model, result.model, result.plan)
    report["skipped_steps"] = skipped(graph, steps, settings.bias_correction)
    return replace(result, report=report)


def describe(model: nn.Module, quantized: nn.Module, plan: Mapping[str, int]) -> dict[str, Any]:
    """Sizes and counts of a quantized network, for reports and records."""
    quantizers, layers = activation_quantizers(quantized), weighted_layers(quantized).values()
    return {
        "size_mib": size_mib(model, plan),
        "fp32_size_mib": size_mib(model),
        "mean_weight_bits": mean_bits(model, plan),
        "weight_layers": len(layers),
        # Counted in the network itself, not in the plan.
        "quantized_weight_layers": sum(
            isinstance(layer, QuantizedWeight) and layer.weight_bits.item() < FLOAT_BITS for layer in layers
        ),
        "quantized_activations": len(quantizers),
        "unreached_activations": [name for name, quantizer in quantizers.items() if not quantizer.calibrated],
    }
