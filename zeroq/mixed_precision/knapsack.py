"""The exact frontier of a multiple-choice knapsack: the least cost within every size at once.

Items are added one at a time, by one recurrence in two forms. The list form extends every non-dominated selection by
every option of the item and drops what is now dominated (Nemhauser and Ullmann, 1969). The table form holds the least
cost within every multiple of the sizes' greatest common divisor (Bellman, 1957). A table's cell costs far less time
than a list's entry, but a list has far fewer entries where few sizes are worth reaching. Each item is added in the
form that is cheaper for it, and both are exact.
"""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import NamedTuple

import numpy
import torch

# A list becomes a table of at most this many cells an entry: a list is sorted for each item, a table is streamed.
CELLS_PER_ENTRY = 16
# Cells that a thread takes at a time: few enough to stay in its cache from one option to the next.
BLOCK = 2**15


class Options(NamedTuple):
    """Non-dominated options, of one item or of several together: sizes ascend from 0, costs fall strictly."""

    sizes: numpy.ndarray  # int64 [options]
    costs: numpy.ndarray  # float64 [options]


class _Stage(NamedTuple):
    """Which option of ``item`` the least costly selection takes, of the items added so far, for each size reached."""

    item: int
    sizes: numpy.ndarray  # int64 [options]
    taken: numpy.ndarray  # int8, option at each position
    reached: numpy.ndarray | int  # size at each position, or the divisor whose multiples they are

    def option(self, size: int) -> int:
        if isinstance(self.reached, int):
            return int(self.taken[size // self.reached])
        return int(self.taken[self.reached.searchsorted(self.reached.dtype.type(size))])


class Frontier(NamedTuple):
    """The non-dominated selections of one option of each item, with what it takes to tell which options those are."""

    selections: Options
    stages: list[_Stage]

    def options_of(self, size: int) -> dict[int, int]:
        """{item: option} of the selection of exactly ``size``, for the items with more than one option."""
        taken = {}
        # Without its last item, a non-dominated selection is a non-dominated one of the items before.
        for stage in reversed(self.stages):
            option = taken[stage.item] = stage.option(size)
            size -= int(stage.sizes[option])
        return taken


def knapsack_frontier(items: Sequence[Options]) -> Frontier:
    """Every selection of one option of each item that no other equals or beats in both size and cost.

    Of selections equal in both, one is kept.
    """
    divisors = numpy.array([numpy.gcd.reduce(item.sizes) for item in items], dtype=numpy.int64)
    spans = numpy.array([item.sizes[-1] for item in items], dtype=numpy.int64)
    # The coarsest sizes first, so that a table has few cells until the last items; of equally coarse ones the smallest
    # first, which keeps both forms short.
    order = numpy.lexsort((spans, -(divisors & -divisors)))
    single = sum(item.costs[0] for item in items if len(item.costs) == 1)
    selections = Options(numpy.zeros(1, dtype=numpy.int64), numpy.full(1, single, dtype=float))
    table, spare, divisor, span, stages = None, numpy.empty(0), 0, 0, []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for index in order[divisors[order] > 0].tolist():
            item, coarser = items[index], divisor
            divisor, span = int(numpy.gcd(coarser, divisors[index])), span + int(spans[index])
            dense = span // divisor < CELLS_PER_ENTRY * len(selections.sizes)
            if table is not None and not (dense and divisor == coarser):
                selections, table = _listed(table, coarser), None
                dense = span // divisor < CELLS_PER_ENTRY * len(selections.sizes)
            if dense:
                table = _tabulated(selections, divisor) if table is None else table
                taken = _add_to_table(table, spare, item.sizes // divisor, item.costs, pool)
                table, spare = spare, table
            else:
                selections, taken = _add_to_list(selections, item)
            reached = divisor if dense else selections.sizes.astype(numpy.min_scalar_type(span))
            stages.append(_Stage(index, item.sizes, taken, reached))
    return Frontier(selections if table is None else _listed(table, divisor), stages)


def non_dominated(sizes: numpy.ndarray, costs: numpy.ndarray) -> numpy.ndarray:
    """Indices of what nothing else equals or beats in both (of equals, one is kept), in order of size."""
    # The sizes come as a few ascending runs, which a stable sort merges instead of sorting.
    order = numpy.argsort(sizes, kind="stable")
    ordered = costs[order]
    cheapest_before = numpy.concatenate(([numpy.inf], numpy.minimum.accumulate(ordered)[:-1]))
    kept = order[ordered < cheapest_before]
    # Of equal sizes, the last is the cheapest.
    is_last = numpy.append(numpy.diff(sizes[kept]) != 0, True)
    return kept[is_last]


def _add_to_list(selections: Options, item: Options) -> tuple[Options, numpy.ndarray]:
    """The selections extended by ``item``, and which of its options each takes."""
    sizes = (selections.sizes + item.sizes[:, None]).ravel()
    costs = (selections.costs + item.costs[:, None]).ravel()
    kept = non_dominated(sizes, costs)
    return Options(sizes[kept], costs[kept]), (kept // len(selections.sizes)).astype(numpy.int8)


def _add_to_table(
    before: numpy.ndarray, after: numpy.ndarray, shifts: numpy.ndarray, costs: numpy.ndarray, pool: Executor
) -> numpy.ndarray:
    """Which option each cell takes, int8 [cells], of an item whose options are ``shifts`` cells large.

    Both tables get their new length; ``after`` is overwritten with the costs ``before``, extended by the item.
    """
    length = len(before)
    # In place, because fresh memory for each item takes as long to map as to fill.
    for table in (before, after):
        table.resize(length + shifts[-1], refcheck=False)
    before[length:] = before[length - 1]
    taken = numpy.zeros(len(before), dtype=numpy.int8)
    options = list(zip(shifts.tolist(), costs.tolist(), strict=True))
    starts = iter(range(0, len(before), BLOCK))

    def fill_blocks(_: int) -> None:
        own_costs, own_cheaper = numpy.empty(BLOCK), numpy.empty(BLOCK, dtype=bool)
        for start in starts:  # the threads share the iterator
            stop = min(start + BLOCK, len(before))
            numpy.add(before[start:stop], options[0][1], out=after[start:stop])
            for option, (shift, cost) in enumerate(options[1:], start=1):
                first = max(start, shift)
                if first >= stop:
                    break
                candidate, cheaper = own_costs[: stop - first], own_cheaper[: stop - first]
                numpy.add(before[first - shift : stop - shift], cost, out=candidate)
                numpy.less(candidate, after[first:stop], out=cheaper)
                numpy.minimum(candidate, after[first:stop], out=after[first:stop])
                # Later options have the larger number, so this writes it where the option is cheaper: arithmetic on
                # bytes takes a tenth of what a masked copy does.
                marked = cheaper.view(numpy.int8)
                numpy.maximum(taken[first:stop], numpy.multiply(marked, option, out=marked), out=taken[first:stop])

    run = map if len(before) <= BLOCK else pool.map
    list(run(fill_blocks, range(torch.get_num_threads())))
    return taken


def _tabulated(selections: Options, divisor: int) -> numpy.ndarray:
    """Least cost within each multiple of ``divisor``, float64 [largest size / divisor + 1]."""
    return numpy.repeat(
        selections.costs, numpy.diff(selections.sizes // divisor, append=selections.sizes[-1] // divisor + 1)
    )


def _listed(table: numpy.ndarray, divisor: int) -> Options:
    """The selections at the cells that cost less than all smaller ones."""
    cells = numpy.flatnonzero(numpy.diff(table, prepend=numpy.inf) < 0)
    return Options(cells * divisor, table[cells])
