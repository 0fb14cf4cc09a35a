"""The Pareto frontier of any cost against sensitivity, exact.

Each item (a layer, or an activation) takes one of the options of a table: a width, or a pair of them. Each option has a
sensitivity and a cost: bits of size, bit operations, time. Minimising Σ Ω_i(o_i) subject to Σ c_i(o_i) ≤ budget is a
multiple-choice knapsack, and ``zeroq.mixed_precision.knapsack`` finds every choice that no other beats in both.
"""

from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import Any, NamedTuple, overload

import numpy
import pandas

from zeroq.errors import ZeroQError
from zeroq.mixed_precision.knapsack import Options, knapsack_frontier, non_dominated


class CostPoint(NamedTuple):
    """``cost`` in the unit of the costs, ``sensitivity`` in nats, and the option of each item by its name."""

    cost: int
    sensitivity: float
    options: dict[str, Any]


class CostFrontier(Sequence[CostPoint]):
    """Every non-dominated choice of one option for each item, from the cheapest to the least sensitive.

    ``costs`` and ``sensitivities`` are arrays over the points; a point's options are put together when it is asked for.
    """

    def __init__(self, omega: pandas.DataFrame, costs: numpy.ndarray, fixed: Mapping[str, Hashable]):
        # ``costs`` are whole numbers [items, options]; the knapsack counts from each item's cheapest option.
        labels: list[Hashable] = list(omega.columns)
        values = omega.to_numpy(dtype=float)
        self._options: dict[str, list[Hashable]] = {}
        self._cheapest, items = 0, []
        for name, row, own_costs in zip(omega.index, values, costs, strict=True):
            allowed = numpy.array([labels.index(fixed[name])]) if name in fixed else numpy.arange(len(labels))
            own = allowed[non_dominated(own_costs[allowed], row[allowed])]
            items.append(Options(own_costs[own] - own_costs[own[0]], row[own]))
            self._options[name] = [labels[index] for index in own]
            self._cheapest += int(own_costs[own[0]])
        self._knapsack = knapsack_frontier(items)
        self.costs: numpy.ndarray = self._knapsack.selections.sizes + self._cheapest
        self.sensitivities: numpy.ndarray = self._knapsack.selections.costs

    def __len__(self) -> int:
        return len(self.costs)

    @overload
    def __getitem__(self, index: int) -> CostPoint: ...

    @overload
    def __getitem__(self, index: slice) -> list[CostPoint]: ...

    def __getitem__(self, index: int | slice) -> CostPoint | list[CostPoint]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        cost = int(self.costs[position])
        taken = self._knapsack.options_of(cost - self._cheapest)
        options = {name: own[taken.get(item, 0)] for item, (name, own) in enumerate(self._options.items())}
        return CostPoint(cost, float(self.sensitivities[position]), options)

    def within(self, budget: float) -> CostPoint:
        """The least sensitive point that costs at most ``budget``.

        Raises ZeroQError for a budget that is no finite number, and where even the cheapest point costs more.
        """
        if not isinstance(budget, Real) or not isfinite(budget):
            raise ZeroQError(f"the budget must be a finite number, not {budget!r}")
        index = bisect_right(self.costs, budget) - 1
        if index < 0:
            raise ZeroQError(
                f"the budget {budget:g} is below the cheapest plan, which costs {self.costs[0]}; raise the budget or "
                f"add cheaper candidate bits"
            )
        return self[index]


def cost_frontier(
    omega: pandas.DataFrame, costs: pandas.DataFrame, *, fixed: Mapping[str, Hashable] | None = None
) -> CostFrontier:
    """Every choice that no other beats in both cost and sensitivity.

    Args:
        omega: sensitivities in nats, item × option: widths, or pairs of them (``pair_sensitivities``).
        costs: what each option of each item costs, whole numbers in any unit, in a table of the same shape and names.
        fixed: items whose option is no choice, with that option.

    Of choices equal in both, one is kept. Raises ZeroQError where the sensitivities hold NaN, infinite or negative
    values, where the costs are no whole numbers from 0 on or those of other items or options, and where ``fixed`` is
    not in them.
    """
    fixed = fixed or {}
    check_sensitivities(omega)
    if list(costs.index) != list(omega.index) or list(costs.columns) != list(omega.columns):
        raise ZeroQError("the costs are of other layers or options than the sensitivities; make both from one network")
    given = costs.to_numpy()
    whole = given.dtype.kind in "iuf" and numpy.isfinite(given).all() and (given == numpy.floor(given)).all()
    if not whole or (given < 0).any():
        raise ZeroQError("costs must be whole numbers from 0 on, such as bits or nanoseconds; round them first")
    labels = set(omega.columns)
    if strange := {name: own for name, own in fixed.items() if name not in omega.index or own not in labels}:
        raise ZeroQError(f"fixed names layers or widths that are not in the sensitivity table: {strange}")
    return CostFrontier(omega, given.astype(numpy.int64), fixed)


def check_sensitivities(omega: pandas.DataFrame) -> None:
    """Raise ZeroQError for a table with values that no sensitivity has."""
    values = omega.to_numpy(dtype=float)
    if not numpy.isfinite(values).all() or (values < 0).any():
        raise ZeroQError("the sensitivity table holds NaN, infinite or negative values; measure it again")


def fixed_without_sensitivity(omega: pandas.DataFrame, costs: pandas.DataFrame, budget: float) -> dict[str, Any]:
    """The option of each item whose Ω is 0 at every option: the dearest that all items could have within the budget.

    The class scores do not depend on such a layer, as on a detector's box regression, but what the network is used
    for does. Its Ω measures nothing, and the frontier would give it the cheapest option. Where the budget has no room
    for any option everywhere, it gets the one that would be cheapest everywhere.
    """
    items = [name for name in omega.index if (omega.loc[name] == 0).all()]
    totals = costs.to_numpy().sum(0)
    order = numpy.argsort(totals, kind="stable")
    within = [index for index in order if totals[index] <= budget]
    return dict.fromkeys(items, list(omega.columns)[within[-1] if within else order[0]])
