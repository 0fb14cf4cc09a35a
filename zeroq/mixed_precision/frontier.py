"""The Pareto frontier of size against sensitivity, exact (section 3.3).

Minimising Σ Ω_i(k_i) subject to Σ P_i·k_i ≤ budget: the costs of ``zeroq.mixed_precision.choices`` are sizes, and the
options of a layer are its candidate widths.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import NamedTuple, overload

import numpy
import pandas

from zeroq.errors import ZeroQError
from zeroq.mixed_precision.choices import CostFrontier, cost_frontier, fixed_without_sensitivity
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

    def __init__(self, choices: CostFrontier, parameters: int):
        # The costs of ``choices`` are sizes in bits.
        self.size_bits: numpy.ndarray = choices.costs
        self.sensitivities: numpy.ndarray = choices.sensitivities
        self.parameters = parameters
        self._choices = choices

    def __len__(self) -> int:
        return len(self.size_bits)

    @overload
    def __getitem__(self, index: int) -> FrontierPoint: ...

    @overload
    def __getitem__(self, index: slice) -> list[FrontierPoint]: ...

    def __getitem__(self, index: int | slice) -> FrontierPoint | list[FrontierPoint]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        size, cost, bits = self._choices[index]
        return FrontierPoint(size, cost, BitPlan(bits, size_bits=size, sensitivity=cost, parameters=self.parameters))

    def index_within(self, size_bits: float) -> int:
        """Index of the least sensitive point of at most ``size_bits``.

        Raises ZeroQError where even the smallest point is larger.
        """
        index = int(numpy.searchsorted(self.size_bits, size_bits, side="right")) - 1
        if index < 0:
            raise below_smallest(int(self.size_bits[0]), self.parameters)
        return index


def pareto_frontier(omega: SensitivityTable, *, fixed: Mapping[str, int] | None = None) -> ParetoFrontier:
    """Every plan that no other beats in both size and sensitivity, from a sensitivity table.

    ``fixed`` names layers whose width is no choice, with that width. Of plans equal in both, one is kept. Raises
    ZeroQError where the table holds NaN, infinite or negative values, and where ``fixed`` is not in it.
    """
    return ParetoFrontier(cost_frontier(omega, size_costs(omega), fixed=fixed), sum(_parameters(omega).values()))


def size_costs(omega: SensitivityTable) -> pandas.DataFrame:
    """The size in bits of each layer's weights at each width; raises ZeroQError for a table without ``parameters``."""
    parameters = pandas.Series(_parameters(omega), dtype=numpy.int64)
    return pandas.DataFrame({bits: parameters * bits for bits in omega.columns}, index=omega.index)


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

    It gets the widest one that is not above the mean, so that it takes nothing from the layers that were measured
    (``fixed_without_sensitivity``).
    """
    return fixed_without_sensitivity(omega, size_costs(omega), average_bits * sum(_parameters(omega).values()))


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


def below_smallest(size_bits: int, parameters: int) -> ZeroQError:
    """The error of a budget that not even the smallest plan keeps, which has ``size_bits``."""
    return ZeroQError(
        f"the budget is below the smallest candidate: the smallest plan has {size_bits / parameters:g} bits a weight "
        f"on average ({size_bits / BITS_PER_MIB:.4g} MiB of weights); raise the budget or add narrower candidate bits"
    )


def _parameters(omega: SensitivityTable) -> dict[str, int]:
    if getattr(omega, "parameters", None) is None:
        raise ZeroQError(
            "the sensitivity table does not know how many weights each layer has; make it with "
            "SensitivityTable.of(values, parameters)"
        )
    return {name: omega.parameters[name] for name in omega.index}
