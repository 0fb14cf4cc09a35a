"""The order of the stages, for every method: images → sensitivity → allocate → quantize → calibrate."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import torch
from torch import nn

from zeroq.baselines.analytic_bias_correction import correct_biases_analytically
from zeroq.baselines.analytic_clipping import analytic_range
from zeroq.baselines.dfq import Steps, set_ranges, skipped_steps, steps_without_statistics
from zeroq.baselines.least_error import least_error_range, set_least_error_weights
from zeroq.baselines.outlier_splitting import split_outlier_channels, unsplit_layers
from zeroq.baselines.propagation import activation_moments
from zeroq.baselines.tensor_ranges import choose_ranges
from zeroq.baselines.weight_correction import correct_weights
from zeroq.borrowing import borrows
from zeroq.distillation.recipe import Distillation
from zeroq.errors import ZeroQError
from zeroq.graph.tracing import check_traced, trace
from zeroq.images import Limits, check_images, check_input_shape, check_limits, gaussian_images, uniform_images
from zeroq.layers import weighted_layers
from zeroq.methods import Method
from zeroq.mixed_precision.choices import CostFrontier
from zeroq.mixed_precision.clipping import clip_ranges
from zeroq.mixed_precision.frontier import ParetoFrontier
from zeroq.mixed_precision.outputs import Reading, UnreadableOutputError, class_scores
from zeroq.mixed_precision.sensitivity import SensitivityTable
from zeroq.modules import channels_last, evaluating, is_channels_last
from zeroq.planning import allocating, measuring, measuring_activations
from zeroq.quantization.affine import FLOAT_BITS
from zeroq.quantization.bias_correction import correct_biases
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import activation_quantizers, convert, resolve_weight_bits
from zeroq.quantization.layers import QuantizedWeight
from zeroq.quantization.operations import mean_activation_bits
from zeroq.quantization.permanent_weights import with_permanent_weights
from zeroq.quantization.size import mean_bits, size_mib
from zeroq.rounding.layer_by_layer import round_layer_by_layer
from zeroq.rounding.learned import learn_rounding
from zeroq.settings import Settings
from zeroq.stages import Progress, RunStage, Stage, run_plainly, timed
from zeroq.work import check_seconds, with_size, work_within

NOISE = {"gaussian": gaussian_images, "uniform_noise": uniform_images}

# Clipping by an activation's own values, whatever is behind it.
BY_VALUES = {"squared_error": least_error_range, "analytic": analytic_range}


@dataclass(frozen=True)
class QuantizationResult:
    """A calibrated quantized network and what led to it.

    ``report`` holds plain values: sizes in MiB, mean weight bits, counts of quantized layers and activations, the names
    of the activations that no image reached, where images were distilled the loss of each iteration
    (``distill_losses``), for DFQ and OCS the steps that had nothing to work on (``skipped_steps``), for compensated and
    learned rounding by layer the share of its inputs' correlations that so few images cannot vouch for
    (``distrusted_correlations``; 1 is rounding to the nearest), and for learned rounding by each block's first layer
    its error on images held out, as a share of that before (``learned_errors``; 1 where it stays). Where activations
    have widths of their own, ``activation_plan`` (by place) and, where the mean is planned, ``mean_activation_bits``;
    with another budget than size what the plan has of it (``bops_share`` or ``planned_ms``). Of a grouped search
    (``grouped``) summed Ω and joint divergence, beside those of the exact plan. With a budget of seconds ``work``,
    ``next_work`` (``work_within``) and the ``seconds`` that each stage took.
    """

    model: nn.Module
    plan: dict[str, int]
    settings: Settings
    images: torch.Tensor | None = None
    sensitivity: SensitivityTable | None = None
    frontier: ParetoFrontier | CostFrontier | None = None
    report: dict[str, Any] = field(default_factory=dict)
    activation_sensitivity: SensitivityTable | None = None


@borrows
def quantize_by_method(
    model: nn.Module,
    input_shape: tuple[int, int, int] | None,
    method: Method,
    settings: Settings,
    *,
    distillation: Distillation = Distillation(),  # noqa: B008 immutable
    images: torch.Tensor | None = None,
    limits: Limits | None = None,
    seconds: float | None = None,
    run_stage: RunStage = run_plainly,
) -> QuantizationResult:
    """Quantize a network by any method.

    Args:
        model: a trained network, in any mode, on any device; it is left as it came.
        input_shape: (channels, height, width) in pixels; a method without images and steps can do without.
        method: what is done, from ``zeroq.methods``.
        settings: bits, placement and the like; their granularity and bias correction go before the method's own.
        distillation: how images are distilled or, with noise, how many are drawn and from which seed.
        images: the caller's own, float [N, C, H, W] and normalised, instead of the method's.
        limits: the smallest and the largest normalised pixel of each channel, where ranges come from statistics.
        seconds: a budget of time, which chooses how much is distilled, as in ``zero_shot_quantize``.
        run_stage: runs each stage.

    Raises:
        ZeroQError: as the stages do, and before any work for parts of a method that do not go together, for wrong
            settings, and for a network whose sensitivities cannot be measured or that cannot be traced where it must.
    """
    model = with_permanent_weights(model)
    check(model, input_shape, method, settings, distillation, images, limits, seconds)
    shape = cast(tuple[int, int, int], input_shape)  # where a stage needs it, ``check`` saw that it is there
    measured = measures_sensitivities(model, shape, method, settings)
    # Before what takes minutes: not every network can be rewritten.
    with channels_last(model, input_shape):
        graph = None if method.steps is None else method.steps(model, shape)
        network = model if graph is None else graph
        from_statistics = method.ranges == "statistics" or settings.bias_correction == "analytic"
        moments = activation_moments(graph, shape, limits) if graph is not None and from_statistics else None
    work: dict[str, Any] = {}
    if seconds is not None:
        distillation, work = work_within(seconds, model, shape, distillation, rounds=settings.rounding != "nearest")
        work["seconds"] = {}
        run_stage = timed(run_stage, work["seconds"])
    elif images is None and method.images == "distilled":
        distillation = with_size(distillation, model, shape)
    losses = None
    if images is None:
        images, losses = calibration_images(model, shape, method, settings, distillation, run_stage)
    seen = cast(torch.Tensor, images)  # None where no stage looks at them
    with channels_last(model, input_shape):
        omega = frontier = activation_omega = None
        activation_bits, planned = settings.activation_bits, {}
        if measured:
            omega = run_stage(measuring(network, seen, settings))
            if settings.mixed_activations:
                activation_omega = run_stage(measuring_activations(network, seen, settings))
            found = run_stage(allocating(network, seen, settings, omega, activation_omega))
            frontier, plan, activation_bits, planned = found
        else:
            plan = resolve_weight_bits(network, settings.weight_bits)
        split, how = None, settings.granularity
        # ``check`` saw that ranges hold 0 where they are of these methods.
        with_zero = {"per_channel": how["per_channel"], "symmetric": how["symmetric"]}
        if method.expansion:
            network = split = split_outlier_channels(network, shape, plan, method.expansion, **with_zero)

        def quantized_network(progress: Progress) -> nn.Module:
            nearest = settings.rounding == "nearest"
            quantized = convert(
                network,
                plan if nearest else FLOAT_BITS,
                activation_bits,
                settings.placement,
                dynamic=method.ranges == "batch",
                input_shape=input_shape,
                **how,
            )
            if method.ranges == "images":
                calibrate(quantized, seen, settings.percentile, settings.calibration)
            elif method.ranges == "statistics" and moments is not None:
                set_ranges(quantized, *moments)
            if settings.clipping == "output_error":
                clip_ranges(quantized, network, seen, settings.output)
            elif settings.clipping != "none":
                choose_ranges(quantized, seen, BY_VALUES[settings.clipping])
            if settings.weight_clipping == "squared_error":
                set_least_error_weights(quantized, network, **with_zero)
            correct = settings.bias_correction == "empirical"
            if not nearest:
                shares.update(
                    round_layer_by_layer(quantized, network, seen, plan, correct=correct, on_layer=progress, **how)
                )
            elif correct:
                correct_biases(quantized, network, seen)
            if settings.rounding == "learned":
                learned.update(learn_rounding(quantized, network, seen, on_block=progress, **how))
            if settings.bias_correction == "weights":
                correct_weights(quantized, network)
            if settings.bias_correction == "analytic" and graph is not None and moments is not None:
                layer_inputs, _ = moments
                correct_biases_analytically(quantized, graph, layer_inputs)
            return quantized

        shares: dict[str, float] = {}
        learned: dict[str, float] = {}
        quantized = run_stage(Stage("calibrate", quantized_network))
    if not is_channels_last(model):
        quantized.to(memory_format=torch.contiguous_format)  # a state dict then reloads to the same outputs
    report = describe(model if split is None else split, quantized, plan) | planned | work
    report["fp32_size_mib"] = size_mib(model)
    if isinstance(activation_bits, Mapping):
        report["activation_plan"] = dict(activation_bits)
    if activation_omega is not None:
        report["mean_activation_bits"] = mean_activation_bits(activation_omega.parameters, activation_bits)
    if settings.rounding != "nearest":
        report["distrusted_correlations"] = shares
    if settings.rounding == "learned":
        report["learned_errors"] = learned
    if losses is not None:
        report["distill_losses"] = losses
    if split is not None and (left := unsplit_layers(split)):
        report["skipped_steps"] = [f"outlier channel splitting of layers in groups or not plain: {', '.join(left)}"]
    if graph is not None and isinstance(method.steps, Steps):
        report["skipped_steps"] = skipped_steps(graph, method.steps, settings.bias_correction)
        if moments is not None:
            report["skipped_steps"] += steps_without_statistics(
                graph, *moments, method.ranges, settings.bias_correction
            )
    return QuantizationResult(quantized, plan, settings, images, omega, frontier, report, activation_omega)


def check(
    model: nn.Module,
    input_shape: tuple[int, int, int] | None,
    method: Method,
    settings: Settings,
    distillation: Distillation,
    images: torch.Tensor | None,
    limits: Limits | None,
    seconds: float | None,
) -> None:
    """Raise ZeroQError for what a stage would refuse later, after minutes of work."""
    if input_shape is not None or method.steps is not None or method.expansion or method.uses_images(settings):
        check_input_shape(input_shape)
    settings.check(model, input_shape)
    method.check(settings, given=images is not None)
    if images is not None:
        check_images(images)
    distillation.check()
    if seconds is not None:
        if images is not None or method.images != "distilled":
            raise ZeroQError("seconds chooses how images are distilled, and here none are; leave it out")
        check_seconds(seconds, distillation)
    for given in (limits, distillation.limits):
        if given is not None and input_shape is not None:
            check_limits(given, torch.empty(1, input_shape[0], 1, 1))
    if settings.placement == "integer" and input_shape is not None:
        check_traced(model, trace(model, input_shape), input_shape)


def measures_sensitivities(
    model: nn.Module, input_shape: tuple[int, int, int], method: Method, settings: Settings
) -> bool:
    """Whether sensitivities are measured.

    A plan is chosen by them. Where all widths are given, they only tell which layer is to blame, and are left out for a
    network in whose output there is nothing to compare. Raises ZeroQError where such a network is asked for them.
    """
    if not method.measures_sensitivities:
        return False
    try:
        with evaluating(model), torch.no_grad():
            class_scores(model, gaussian_images(input_shape, 1), Reading(settings.output))
    except UnreadableOutputError:
        if settings.mixed or settings.mixed_activations or settings.output is not None:
            raise
        return False
    return True


def calibration_images(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    method: Method,
    settings: Settings,
    distillation: Distillation,
    run_stage: RunStage,
) -> tuple[torch.Tensor | None, list[float] | None]:
    """The method's images, and the loss of each iteration where they are distilled."""
    if not method.uses_images(settings):
        return None, None
    if method.images in NOISE:
        return NOISE[method.images](input_shape, distillation.count, seed=distillation.seed), None

    def distilled(progress: Progress) -> tuple[torch.Tensor, list[float]]:
        losses: list[float] = []

        def on_iteration(iteration: int, loss: float) -> None:
            losses.append(loss)
            progress(iteration + 1, distillation.total)

        return distillation.run(model, input_shape, on_iteration), losses

    inputs = {"network": model, "input_shape": input_shape, **asdict(distillation)}
    stage = Stage(
        "distill",
        distilled,
        inputs,
        pack=lambda result: {"images": result[0].cpu(), "losses": result[1]},
        unpack=lambda stored: (stored["images"], stored["losses"]),
    )
    return run_stage(stage)


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
