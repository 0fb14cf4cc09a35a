"""The stages that measure sensitivities and choose bits."""

from typing import Any, cast

import torch
from torch import nn

from zeroq.mixed_precision.activations import activation_sensitivity
from zeroq.mixed_precision.choices import CostFrontier
from zeroq.mixed_precision.frontier import (
    ParetoFrontier,
    allocate,
    budget_bits,
    pareto_frontier,
    widths_without_sensitivity,
)
from zeroq.mixed_precision.grouped import grouped_frontier
from zeroq.mixed_precision.refine import MeasuredPlan, measure_plans, refine
from zeroq.mixed_precision.sensitivity import SensitivityTable, sensitivity
from zeroq.quantization.convert import resolve_weight_bits
from zeroq.settings import Settings
from zeroq.stages import Progress, Stage


def measuring(network: nn.Module, images: torch.Tensor, settings: Settings) -> Stage:
    """The stage that measures how sensitive the output is to each layer's bits.

    With the rounding that a plan will be used with, or what learned rounding starts from; without a plan to choose,
    with the nearest, which is quicker.
    """
    rounding = settings.measured_rounding if settings.mixed else "nearest"

    def compute(progress: Progress) -> SensitivityTable:
        return sensitivity(
            network,
            images,
            settings.candidates,
            direction=settings.direction,
            mode=settings.sensitivity,
            rounding=rounding,
            output=settings.output,
            devices=settings.devices,
            on_layer=progress,
            **settings.granularity,
        )

    inputs = {
        "network": network,
        "images": images,
        "candidates": sorted(settings.candidates),
        "mode": settings.sensitivity,
        "direction": settings.direction,
        "rounding": rounding,
        "output": settings.output,
        **settings.granularity,
    }
    return Stage("sensitivity", compute, inputs, pack=SensitivityTable.to_plain, unpack=SensitivityTable.from_plain)


def measuring_activations(network: nn.Module, images: torch.Tensor, settings: Settings) -> Stage:
    """The stage that measures how sensitive the output is to each activation's bits, with the ranges of the method."""
    how: dict[str, Any] = {
        "placement": settings.placement,
        "percentile": settings.percentile,
        "calibration": settings.calibration,
        "clipped": settings.clipping == "output_error",
        "direction": settings.direction,
        "mode": settings.sensitivity,
        "output": settings.output,
    }

    def compute(progress: Progress) -> SensitivityTable:
        return activation_sensitivity(network, images, settings.candidates, on_layer=progress, **how)

    inputs = {"network": network, "images": images, "candidates": sorted(settings.candidates), **how}
    pack, unpack = SensitivityTable.to_plain, SensitivityTable.from_plain
    return Stage("activation_sensitivity", compute, inputs, pack=pack, unpack=unpack)


def allocating(
    network: nn.Module,
    images: torch.Tensor,
    settings: Settings,
    omega: SensitivityTable,
    activation_omega: SensitivityTable | None = None,
) -> Stage:
    """The stage that chooses bits: (the frontier, bits of weights, bits of activations, what to report of the budget).

    ``activation_omega`` are the sensitivities of activations that have a plan of their own.
    """

    def compute(progress: Progress) -> tuple[ParetoFrontier | CostFrontier, dict[str, int], Any, dict[str, Any]]:
        budget, activation_bits = settings.budget, settings.activation_bits
        # Where they have a plan of their own, or a budget that counts them, they are no plan yet.
        width = cast(int, activation_bits)
        if activation_omega is not None and not (budget and budget.counts_activations):
            activation_bits = allocate(activation_omega, average_bits=width)
        if budget is None:
            frontier, plan, found = weight_plan(network, images, settings, omega, progress)
            return frontier, plan, activation_bits, found
        chosen = budget.plan(network, images, omega, width if activation_omega is None else activation_omega)
        if activation_omega is not None and budget.counts_activations:
            activation_bits = chosen.activations
        return chosen.frontier, chosen.weights, activation_bits, budget.found(chosen, network, images)

    return Stage("allocate", compute)


def weight_plan(
    network: nn.Module, images: torch.Tensor, settings: Settings, omega: SensitivityTable, progress: Progress
) -> tuple[ParetoFrontier, dict[str, int], dict[str, Any]]:
    """The frontier of size, each layer's bits, and what to report of them.

    The bits are a plan of at most the mean, or what the settings say.
    """
    if not settings.mixed:
        return pareto_frontier(omega), resolve_weight_bits(network, settings.weight_bits), {}
    average_bits = cast(float, settings.weight_bits)
    frontier = pareto_frontier(omega, fixed=widths_without_sensitivity(omega, average_bits))
    budget = budget_bits(frontier.parameters, average_bits=average_bits, weights_mib=None)
    how: dict[str, Any] = {
        "direction": settings.direction,
        "rounding": settings.measured_rounding,
        "output": settings.output,
        **settings.granularity,
    }
    if settings.refine:
        measured = refine(
            network, images, frontier, average_bits=average_bits, count=settings.refine, on_plan=progress, **how
        )
        return frontier, measured[0].plan, {}
    exact = frontier[frontier.index_within(budget)].plan
    if settings.frontier == "exact":
        return frontier, exact, {}
    plan = grouped_frontier(network, images, omega, average_bits=average_bits, on_group=progress, **how)[0].plan
    return frontier, plan, {"grouped": beside(*measure_plans(network, images, [plan, exact], **how))}


def beside(grouped: MeasuredPlan, exact: MeasuredPlan) -> dict[str, float]:
    """Summed Ω and joint divergence, in nats, of what the grouped search found and of the exact frontier's plan."""
    return {
        "sensitivity": grouped.plan.sensitivity,
        "divergence": grouped.joint_kl,
        "exact_sensitivity": exact.plan.sensitivity,
        "exact_divergence": exact.joint_kl,
    }
