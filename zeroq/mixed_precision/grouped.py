"""The paper's own search of the frontier (appendix A): sizes in bins, layers in groups, measured after each group.

The exact frontier (``zeroq.mixed_precision.frontier``) takes it that the sensitivities of all layers add up. Here they
add up within a group alone. The groups join one after the other, in the order of the network. What is kept of those
before is extended by every choice for the next group that no other beats in size and summed Ω. Sizes are cut into bins;
of each bin the choices with the least sum are measured, with all their layers quantized at once and the layers behind
in float, and the measured divergence takes the place of the sum. How many layers are a group, how many bins there are
and how many choices of each are measured is this project's choice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Literal, NamedTuple

import numpy
import pandas
import torch
from torch import nn

from zeroq.borrowing import borrows, copied
from zeroq.errors import ZeroQError
from zeroq.images import check_images
from zeroq.layers import weighted_layers
from zeroq.mixed_precision.choices import CostFrontier, cost_frontier
from zeroq.mixed_precision.divergence import Direction, check_direction, divergence
from zeroq.mixed_precision.exact import Candidates
from zeroq.mixed_precision.frontier import below_smallest, budget_bits, size_costs, widths_without_sensitivity
from zeroq.mixed_precision.knapsack import non_dominated
from zeroq.mixed_precision.outputs import Output, Reading, class_scores, reading_of
from zeroq.mixed_precision.plan import BitPlan
from zeroq.mixed_precision.refine import MeasuredPlan
from zeroq.mixed_precision.sensitivity import SensitivityTable
from zeroq.modules import evaluating
from zeroq.quantization.affine import FLOAT_BITS, Granularity, WeightRange
from zeroq.quantization.permanent_weights import with_permanent_weights
from zeroq.rounding.candidates import compensated_weights
from zeroq.rounding.quantize import Rounding, check_rounding

Search = Literal["exact", "grouped"]
# Divergence in nats of the network whose named layers are quantized to these widths, and all others float.
Measure = Callable[[Mapping[str, int]], float]


class Partial(NamedTuple):
    """The ``widths`` of the groups so far, their size in bits above the smallest, and their measured ``divergence``."""

    excess: int
    divergence: float
    widths: dict[str, int]


@borrows
def grouped_frontier(
    model: nn.Module,
    images: torch.Tensor,
    omega: SensitivityTable,
    *,
    average_bits: float | None = None,
    weights_mib: float | None = None,
    layers: int = 8,
    bins: int = 32,
    contenders: int = 2,
    direction: Direction = "forward",
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    rounding: Rounding = "nearest",
    output: Output = None,
    on_group: Callable[[int, int], None] = lambda done, total: None,
) -> list[MeasuredPlan]:
    """Plans within a budget that no other found one beats in size and measured divergence; the least divergent first.

    Source: Cai et al., ZeroQ (CVPR 2020), appendix A.

    Args:
        model, images, output: as in ``sensitivity``, which gives ``omega``.
        average_bits, weights_mib: one budget, as in ``allocate``.
        layers: at most so many are a group.
        bins: how many parts sizes are cut into, from the smallest plan to the budget.
        contenders: how many choices are measured in each bin after each group. Of compensated weights the divergence
            is measured as in ``sensitivity``.
        direction, per_channel, symmetric, weight_range, rounding: as in ``sensitivity``.
        on_group: receives (groups done, groups in all).

    Raises ZeroQError as ``allocate`` and ``sensitivity`` do, for a table of other layers than the network's, and for
    numbers below 1.
    """
    check_images(images)
    check_direction(direction)
    check_rounding(rounding)
    for name, number in (("layers", layers), ("bins", bins), ("contenders", contenders)):
        if number < 1:
            raise ZeroQError(f"{name} must be at least 1, not {number}")
    model = with_permanent_weights(model)
    if list(omega.index) != list(weighted_layers(model)):
        raise ZeroQError("the sensitivity table is of other layers than the network's; measure it of this network")
    costs, parameters = size_costs(omega), sum(omega.parameters.values())
    budget = budget_bits(parameters, average_bits=average_bits, weights_mib=weights_mib)
    fixed = widths_without_sensitivity(omega, budget / parameters)
    groups = [
        cost_frontier(own, costs.loc[own.index], fixed={name: fixed[name] for name in own.index if name in fixed})
        for own in in_groups(omega, layers)
    ]
    smallest = sum(int(group.costs[0]) for group in groups)
    if smallest > budget:
        raise below_smallest(smallest, parameters)
    granularity: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    candidates = Candidates(weighted_layers(model), [int(bits) for bits in omega.columns], granularity)
    if rounding != "nearest":
        rounded = compensated_weights(model, images[::2], candidates.widths, **granularity)
        candidates = replace(candidates, rounded=rounded)
        images = images[1::2] if len(images) > 1 else images
    measure = measure_of(model, images, candidates, direction, reading_of(model, images, output))
    values = omega.to_dict("index")
    found = search(groups, budget - smallest, measure, bins=bins, contenders=contenders, on_group=on_group)
    return [
        MeasuredPlan(
            BitPlan(
                each.widths,
                size_bits=smallest + each.excess,
                sensitivity=sum(values[name][bits] for name, bits in each.widths.items()),
                parameters=parameters,
            ),
            each.divergence,
        )
        for each in reversed(found)
    ]


def in_groups(omega: SensitivityTable, layers: int) -> list[pandas.DataFrame]:
    """The table in parts of about equally many rows, at most ``layers``, in its order."""
    parts = numpy.array_split(numpy.arange(len(omega)), ceil(len(omega) / layers))
    return [pandas.DataFrame(omega).iloc[part] for part in parts]


def measure_of(
    model: nn.Module, images: torch.Tensor, candidates: Candidates, direction: Direction, reading: Reading
) -> Measure:
    """What measures a copy of the network in which several layers at once have the weights of ``candidates``."""
    weights = {
        name: dict(zip(candidates.widths, candidates.weights(name), strict=True)) | {FLOAT_BITS: layer.weight.detach()}
        for name, layer in candidates.layers.items()
    }
    network = copied(model)
    layers = weighted_layers(network)
    for layer in layers.values():
        # Two layers that share a weight may have two widths.
        layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    network.eval()
    with evaluating(model), torch.no_grad():
        reference = class_scores(model, images, reading)

    def measure(widths: Mapping[str, int]) -> float:
        for name, layer in layers.items():
            layer.weight.data = weights[name][widths.get(name, FLOAT_BITS)]
        with torch.no_grad():
            return divergence(reference, class_scores(network, images, reading), direction, reading.kind)

    return measure


def search(
    groups: Sequence[CostFrontier],
    room: float,
    measure: Measure,
    *,
    bins: int,
    contenders: int,
    on_group: Callable[[int, int], None] = lambda done, total: None,
) -> list[Partial]:
    """What the search finds of all groups, ascending in size and falling in divergence.

    ``groups`` are the frontiers of the groups' layers alone, and ``room`` is what the budget has, in bits, above the
    smallest choice of all.
    """
    kept = [Partial(0, 0.0, {})]
    for done, group in enumerate(groups, start=1):
        excess = numpy.add.outer([each.excess for each in kept], group.costs - group.costs[0]).ravel()
        sums = numpy.add.outer([each.divergence for each in kept], group.sensitivities).ravel()
        measured = []
        for index in least_of_bins(excess, sums, room, bins=bins, contenders=contenders):
            before, option = divmod(index, len(group))
            widths = kept[before].widths | group[option].options
            measured.append(Partial(int(excess[index]), measure(widths), widths))
        sizes, divergences = (numpy.array(column) for column in list(zip(*measured, strict=True))[:2])
        kept = [measured[index] for index in non_dominated(sizes, divergences)]
        on_group(done, len(groups))
    return kept


def least_of_bins(excess: numpy.ndarray, sums: numpy.ndarray, room: float, *, bins: int, contenders: int) -> list[int]:
    """Indices of the ``contenders`` with the least sums in each bin, of those within ``room`` that no other beats.

    A bin holds the sizes above the one before, up to its own end; the last one ends at ``room``.
    """
    within = numpy.flatnonzero(excess <= room)
    best = within[non_dominated(excess[within], sums[within])]
    ends = numpy.ceil(excess[best] * bins / room) if room else numpy.zeros(len(best))
    # Sums fall with size, so that those of a bin that come last are its least.
    return pandas.Series(best).groupby(ends).tail(contenders).to_list()
