"""The order of the stages: distil → sensitivity → allocate → quantize → calibrate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from zeroq.images.batch_norm import Statistics
from zeroq.images.distill import distill
from zeroq.precision.frontier import ParetoFrontier, budget_bits, pareto_frontier
from zeroq.precision.refine import refine as measure_jointly
from zeroq.precision.sensitivity import Direction, SensitivityTable, sensitivity
from zeroq.quantization.affine import FLOAT_BITS
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import Placement, activation_quantizers, quantize, resolve_weight_bits
from zeroq.quantization.layers import weighted_layers
from zeroq.quantization.size import mean_bits, size_mib

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
    weight_bits: float = 4,
    activation_bits: int = 8,
    mixed: bool = True,
    *,
    count: int = 32,
    iterations: int = 500,
    seed: int = 0,
    statistics: Statistics = "image",
    run_stage: RunStage = run_plainly,
    **settings,
) -> QuantizationResult:
    """Quantize a trained network without any data.

    ``weight_bits`` is every layer's width, or the mean of a mixed-precision plan if ``mixed``. ``settings`` are
    those of ``quantize_with_images``, the others those of ``distill``. Raises ZeroQError as the stages do.
    """

    def distill_recording(progress: Progress) -> tuple[torch.Tensor, list[float]]:
        losses: list[float] = []

        def on_iteration(iteration: int, loss: float) -> None:
            losses.append(loss)
            progress(iteration + 1, iterations)

        images = distill(
            model, input_shape, count, iterations, seed=seed, statistics=statistics, on_iteration=on_iteration
        )
        return images, losses

    images, losses = run_stage("distill", distill_recording)
    result = quantize_with_images(model, images, weight_bits, activation_bits, mixed, run_stage=run_stage, **settings)
    result.report["distill_losses"] = losses
    return result


def quantize_with_images(
    model: nn.Module,
    images: torch.Tensor,
    weight_bits: float = 4,
    activation_bits: int = 8,
    mixed: bool = True,
    *,
    candidates: Sequence[int] = (2, 4, 8),
    direction: Direction = "forward",
    refine: int = 0,
    placement: Placement = "layer_inputs",
    per_channel: bool = True,
    symmetric: bool = False,
    percentile: float | None = None,
    run_stage: RunStage = run_plainly,
) -> QuantizationResult:
    """Quantize a network with calibration images of any origin.

    ``refine`` > 0 measures that many plans near the budget jointly and keeps the best. Sensitivities are
    measured for uniform widths too: they tell which layer is to blame.
    """
    granularity = {"per_channel": per_channel, "symmetric": symmetric}
    omega = run_stage(
        "sensitivity",
        lambda progress: sensitivity(model, images, candidates, direction=direction, on_layer=progress, **granularity),
    )

    def allocate_bits(progress: Progress) -> tuple[ParetoFrontier, dict[str, int]]:
        frontier = pareto_frontier(omega)
        if not mixed:
            return frontier, resolve_weight_bits(model, weight_bits)
        if refine:
            measured = measure_jointly(
                model,
                images,
                frontier,
                average_bits=weight_bits,
                count=refine,
                direction=direction,
                on_plan=progress,
                **granularity,
            )
            return frontier, measured[0].plan
        budget = budget_bits(frontier.parameters, average_bits=weight_bits, weights_mib=None)
        return frontier, frontier[frontier.index_within(budget)].plan

    frontier, plan = run_stage("allocate", allocate_bits)

    def quantize_and_calibrate(progress: Progress) -> nn.Module:
        quantized = quantize(model, plan, activation_bits, placement, **granularity)
        calibrate(quantized, images, percentile)
        return quantized

    quantized = run_stage("calibrate", quantize_and_calibrate)
    return QuantizationResult(quantized, plan, images, omega, frontier, describe(model, quantized, plan))


def quantize_naively(
    model: nn.Module,
    weight_bits: int,
    activation_bits: int,
    *,
    placement: Placement = "layer_inputs",
    symmetric: bool = False,
) -> QuantizationResult:
    """The naive baseline: one width, one weight range a tensor, each batch's own activation range."""
    quantized = quantize(
        model, weight_bits, activation_bits, placement, per_channel=False, symmetric=symmetric, dynamic=True
    )
    plan = resolve_weight_bits(model, weight_bits)
    return QuantizationResult(quantized, plan, report=describe(model, quantized, plan))


def describe(model: nn.Module, quantized: nn.Module, plan: Mapping[str, int]) -> dict[str, Any]:
    """Sizes and counts of a quantized network, for reports and records."""
    quantizers = activation_quantizers(quantized)
    return {
        "size_mib": size_mib(model, plan),
        "fp32_size_mib": size_mib(model),
        "mean_weight_bits": mean_bits(model, plan),
        "weight_layers": len(weighted_layers(quantized)),
        "quantized_weight_layers": sum(bits < FLOAT_BITS for bits in plan.values()),
        "quantized_activations": len(quantizers),
        "unreached_activations": [name for name, quantizer in quantizers.items() if not quantizer.calibrated],
    }
