"""The Pareto frontier of size against sensitivity, exact (section 3.3).

Minimising Σ Ω_i(k_i) subject to Σ P_i·k_i ≤ budget is a multiple-choice knapsack: an item for each layer, an option
for each of its candidate widths. A plan is on the frontier where no other is both smaller (or equal) and less
sensitive, and ``zeroq.mixed_precision.knapsack`` finds all of them.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import NamedTuple

import numpy

from zeroq.errors import ZeroQError
from zeroq.mixed_precision.knapsack import Frontier, Options, knapsack_frontier, non_dominated
from zeroq.mixed_precision.plan import BitPlan
from zeroq.mixed_precision.sensitivity import SensitivityTable
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

    def __init__(self, omega: SensitivityTable, widths: Sequence[Sequence[int]], knapsack: Frontier):
        # ``widths`` are those of the options that each layer has in ``knapsack``, whose sizes count from the narrowest.
        parameters = _parameters(omega)
        self._narrowest = sum(parameters[name] * own[0] for name, own in zip(parameters, widths, strict=True))
        self.size_bits: numpy.ndarray = knapsack.selections.sizes + self._narrowest
        self.sensitivities: numpy.ndarray = knapsack.selections.costs
        self.parameters = sum(parameters.values())
        self._widths = dict(zip(parameters, widths, strict=True))
        self._knapsack = knapsack

    def __len__(self) -> int:
        return len(self.size_bits)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        size, cost = int(self.size_bits[position]), float(self.sensitivities[position])
        options = self._knapsack.options_of(size - self._narrowest)
        bits = {name: own[options.get(layer, 0)] for layer, (name, own) in enumerate(self._widths.items())}
        plan = BitPlan(bits, size_bits=size, sensitivity=cost, parameters=self.parameters)
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

    options, widths_of = [], []
    for name, count, row in zip(omega.index, counts, values, strict=True):
        allowed = numpy.flatnonzero(widths == fixed[name]) if name in fixed else numpy.arange(len(widths))
        own = allowed[non_dominated(count * widths[allowed], row[allowed])]
        options.append(Options(count * (widths[own] - widths[own[0]]), row[own]))
        widths_of.append(widths[own].tolist())
    return ParetoFrontier(omega, widths_of, knapsack_frontier(options))


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
