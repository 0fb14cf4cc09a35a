"""The Pareto frontier of size against sensitivity, exact (section 3.3).

Minimising Σ Ω_i(k_i) subject to Σ P_i·k_i ≤ budget is a multiple-choice knapsack. Layers are added one at a
time: every plan so far is extended by every candidate width, and a plan survives only where no other is both
smaller (or equal) and less sensitive. What survives after the last layer is the whole frontier (Nemhauser and
Ullmann, 1969).
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import NamedTuple

import numpy

from zeroq.errors import ZeroQError
from zeroq.precision.plan import BitPlan
from zeroq.precision.sensitivity import SensitivityTable
from zeroq.quantization.size import BITS_PER_MIB


class FrontierPoint(NamedTuple):
    """``size_bits`` of all weights, ``sensitivity`` in nats, and the plan."""

    size_bits: int
    sensitivity: float
    plan: BitPlan


class ParetoFrontier(Sequence[FrontierPoint]):
    """Every non-dominated plan, from the smallest to the least sensitive.

    ``size_bits`` and ``sensitivities`` are arrays over the points; a point's plan is put together when it
    is asked for.
    """

    def __init__(self, omega: SensitivityTable, size_bits, sensitivities, steps):
        self.size_bits: numpy.ndarray = size_bits
        self.sensitivities: numpy.ndarray = sensitivities
        self.parameters = sum(_parameters(omega).values())
        self._layers = list(omega.index)
        self._steps = steps

    def __len__(self) -> int:
        return len(self.size_bits)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        bits, state = {}, position
        for name, widths, choices, parents in reversed(self._steps):
            bits[name] = int(widths[choices[state]])
            state = parents[state]
        size, cost = int(self.size_bits[position]), float(self.sensitivities[position])
        in_order = {name: bits[name] for name in self._layers}
        plan = BitPlan(in_order, size_bits=size, sensitivity=cost, parameters=self.parameters)
        return FrontierPoint(size, cost, plan)

    def index_within(self, size_bits: float) -> int:
        """Index of the least sensitive point of at most ``size_bits``.

        Raises ZeroQError where even the smallest point is larger.
        """
        index = bisect_right(self.size_bits, size_bits) - 1
        if index < 0:
            smallest = self.size_bits[0]
            raise ZeroQError(
                f"the budget is below the smallest candidate: the smallest plan has {smallest / self.parameters:g} "
                f"bits a weight on average ({smallest / BITS_PER_MIB:.4g} MiB of weights); raise the budget or "
                f"add narrower candidate bits"
            )
        return index


def pareto_frontier(omega: SensitivityTable, *, fixed: Mapping[str, int] | None = None) -> ParetoFrontier:
    """Every plan that no other beats in both size and sensitivity, from a sensitivity table.

    ``fixed`` names layers whose width is no choice, with that width. Of plans equal in both, one is kept. Raises
    ZeroQError where the table holds NaN, infinite or negative values, and where ``fixed`` is not in it.
    """
    fixed = fixed or {}
    parameters = _parameters(omega)
    values = omega.to_numpy(dtype=float)
    if not numpy.isfinite(values).all() or (values < 0).any():
        raise ZeroQError("the sensitivity table holds NaN, infinite or negative values; measure it again")
    widths = numpy.array([int(bits) for bits in omega.columns])
    if strange := {name: bits for name, bits in fixed.items() if name not in omega.index or bits not in widths}:
        raise ZeroQError(f"fixed names layers or widths that are not in the sensitivity table: {strange}")
    counts = numpy.array([parameters[name] for name in omega.index], dtype=numpy.int64)

    sizes, costs = numpy.zeros(1, dtype=numpy.int64), numpy.zeros(1)
    steps = []
    # The fewest distinct sizes first keeps the intermediate frontiers short.
    for layer in numpy.argsort(counts, kind="stable"):
        name = omega.index[layer]
        if name in fixed:
            own = numpy.flatnonzero(widths == fixed[name])
        else:
            own = _non_dominated(counts[layer] * widths, values[layer])
        all_sizes = (sizes + (counts[layer] * widths[own])[:, None]).ravel()
        all_costs = (costs + values[layer][own][:, None]).ravel()
        kept = _non_dominated(all_sizes, all_costs)
        choices, parents = numpy.divmod(kept, len(sizes))
        steps.append((name, widths[own], choices.astype(numpy.int8), parents.astype(numpy.int32)))
        sizes, costs = all_sizes[kept], all_costs[kept]
    return ParetoFrontier(omega, sizes, costs, steps)


def allocate(
    omega: SensitivityTable, *, average_bits: float | None = None, weights_mib: float | None = None
) -> BitPlan:
    """The least sensitive plan within a budget.

    Give one budget: ``average_bits`` of a weight, or ``weights_mib``, the size of all Conv and Linear weights
    in MiB. Layers without sensitivity get the width that ``widths_without_sensitivity`` gives them. Raises
    ZeroQError for no budget or both, and for one below the smallest candidate.
    """
    parameters = sum(_parameters(omega).values())
    budget = budget_bits(parameters, average_bits=average_bits, weights_mib=weights_mib)
    frontier = pareto_frontier(omega, fixed=widths_without_sensitivity(omega, budget / parameters))
    return frontier[frontier.index_within(budget)].plan


def widths_without_sensitivity(omega: SensitivityTable, average_bits: float) -> dict[str, int]:
    """The width of each layer whose Ω is 0 at every width: one close to the budget's mean.

    The class scores do not depend on such a layer, as on a detector's box regression, but what the network is used
    for does. Its Ω measures nothing, and the frontier would give it the narrowest candidate. It gets the widest one
    that is not above the mean, so that it takes nothing from the layers that were measured.
    """
    layers = [name for name in omega.index if (omega.loc[name] == 0).all()]
    candidates = sorted(int(bits) for bits in omega.columns)
    not_above = [bits for bits in candidates if bits <= average_bits]
    return dict.fromkeys(layers, not_above[-1] if not_above else candidates[0])


def budget_bits(parameters: int, *, average_bits: float | None, weights_mib: float | None) -> float:
    """A budget in bits of all weights; raises ZeroQError unless exactly one is given."""
    if (average_bits is None) == (weights_mib is None):
        raise ZeroQError("give one budget: average_bits or weights_mib")
    given = weights_mib if average_bits is None else average_bits
    if not isinstance(given, Real) or not isfinite(given):
        raise ZeroQError(f"the budget must be a finite number, not {given!r}")
    budget = average_bits * parameters if average_bits is not None else weights_mib * BITS_PER_MIB
    # Rounded, because a plan's own mean times the parameters may fall a hair below its size.
    return round(budget, 3)


def _parameters(omega: SensitivityTable) -> dict[str, int]:
    if getattr(omega, "parameters", None) is None:
        raise ZeroQError(
            "the sensitivity table does not know how many weights each layer has; make it with "
            "SensitivityTable.of(values, parameters)"
        )
    return {name: omega.parameters[name] for name in omega.index}


def _non_dominated(sizes: numpy.ndarray, costs: numpy.ndarray) -> numpy.ndarray:
    """Indices of the plans that none beats or equals in both, in order of size."""
    # The sizes come as a few ascending runs, which a stable sort merges instead of sorting.
    order = numpy.argsort(sizes, kind="stable")
    ordered = costs[order]
    cheapest_before = numpy.concatenate(([numpy.inf], numpy.minimum.accumulate(ordered)[:-1]))
    kept = order[ordered < cheapest_before]
    # Of equal sizes, the last is the cheapest.
    is_last = numpy.append(numpy.diff(sizes[kept]) != 0, True)
    return kept[is_last]
