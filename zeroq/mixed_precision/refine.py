"""Re-measure the plans near a budget with all their layers quantized at once.

The frontier assumes that the layers' sensitivities add up. The paper's appendix checks that assumption group
by group; here the best few plans near the budget are measured as a whole.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy
import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.errors import ZeroQError
from zeroq.images import check_images
from zeroq.mixed_precision.divergence import Direction, divergence
from zeroq.mixed_precision.frontier import ParetoFrontier, budget_bits
from zeroq.mixed_precision.outputs import Output, class_scores, reading_of
from zeroq.mixed_precision.plan import BitPlan
from zeroq.modules import evaluating
from zeroq.quantization.affine import FLOAT_BITS, Granularity, WeightRange
from zeroq.quantization.permanent_weights import with_permanent_weights
from zeroq.rounding.quantize import Rounding, quantize

# Plans below this share of the budget give away more size than their sensitivity can win back.
NEAR = 0.97


class MeasuredPlan(NamedTuple):
    """A plan and the KL in nats between the float network and the one with all its weights quantized.

    Of other outputs than class scores it is the distance of ``sensitivity``.
    """

    plan: BitPlan
    joint_kl: float


@borrows
def refine(
    model: nn.Module,
    images: torch.Tensor,
    frontier: ParetoFrontier,
    *,
    average_bits: float | None = None,
    weights_mib: float | None = None,
    count: int = 8,
    direction: Direction = "forward",
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    rounding: Rounding = "nearest",
    output: Output = None,
    on_plan: Callable[[int, int], None] = lambda done, total: None,
) -> list[MeasuredPlan]:
    """Measure up to ``count`` frontier plans near the budget jointly; the best comes first.

    The budget is given as in ``allocate``, the weight quantizers as in ``quantize``, ``direction`` and ``output`` as in
    ``sensitivity``; ``on_plan`` receives (plans done, plans in all). Raises ZeroQError as ``allocate`` and
    ``sensitivity`` do.
    """
    check_images(images)
    if count < 1:
        raise ZeroQError(f"refine needs at least 1 plan to measure, not {count}")
    model = with_permanent_weights(model)
    budget = budget_bits(frontier.parameters, average_bits=average_bits, weights_mib=weights_mib)
    last = frontier.index_within(budget)
    first = min(int(numpy.searchsorted(frontier.size_bits, NEAR * budget)), last)
    indices = numpy.unique(numpy.linspace(first, last, count).round().astype(int))
    plans = [frontier[index].plan for index in indices]
    granularity: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    how: dict[str, Any] = {"rounding": rounding, **granularity}
    measured = measure_plans(model, images, plans, direction=direction, output=output, on_plan=on_plan, **how)
    return sorted(measured, key=lambda candidate: candidate.joint_kl)


def measure_plans(
    model: nn.Module,
    images: torch.Tensor,
    plans: Sequence[BitPlan],
    *,
    direction: Direction = "forward",
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    rounding: Rounding = "nearest",
    output: Output = None,
    on_plan: Callable[[int, int], None] = lambda done, total: None,
) -> list[MeasuredPlan]:
    """Each plan with its joint KL; arguments and errors as in ``refine``."""
    granularity: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    how: dict[str, Any] = {"rounding": rounding, **granularity}
    if rounding != "nearest":
        how["images"] = images
    reading = reading_of(model, images, output)
    with evaluating(model), torch.no_grad():
        reference = class_scores(model, images, reading)
        measured = []
        for done, plan in enumerate(plans, start=1):
            changed = class_scores(quantize(model, plan, FLOAT_BITS, **how), images, reading)
            measured.append(MeasuredPlan(plan, divergence(reference, changed, direction, reading.kind)))
            on_plan(done, len(plans))
    return measured
