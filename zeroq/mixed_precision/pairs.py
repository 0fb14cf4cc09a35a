"""Plans whose budget joins weights and activations: each layer takes a pair (weight bits, bits of its input).

Where both are chosen, a pair's sensitivity is Ω_w + Ω_a. Its cost is the layer's bit operations, or its measured time.
``zeroq.mixed_precision.choices`` finds the plans that no other beats.
"""

from collections.abc import Mapping
from itertools import product
from math import isfinite
from numbers import Real
from typing import NamedTuple, cast

import numpy
import pandas

from zeroq.errors import ZeroQError
from zeroq.mixed_precision.choices import CostFrontier, cost_frontier, fixed_without_sensitivity
from zeroq.mixed_precision.sensitivity import SensitivityTable
from zeroq.quantization.affine import FLOAT_BITS, LARGEST_BITS

# Times are whole numbers of this unit in milliseconds, finer than what a clock repeats.
TIME_UNIT_MS = 1e-4


class PairPlan(NamedTuple):
    """Bits of each layer's weights and of its input, by the layer's name, and the frontier they were chosen from.

    ``cost`` is in the unit of the costs, ``sensitivity`` in nats.
    """

    weights: dict[str, int]
    activations: dict[str, int]
    cost: int
    sensitivity: float
    frontier: CostFrontier


def pair_sensitivities(
    omega: SensitivityTable, activations: SensitivityTable | int, *, with_float: bool = False
) -> pandas.DataFrame:
    """Ω of each layer at each pair of widths, in nats: layer × (weight bits, activation bits).

    Args:
        omega: sensitivities of weights.
        activations: those of layers' inputs (``activation_sensitivity`` with placement ``layer_inputs``), of which the
            sum is taken; or the width that all of them have, whose own sensitivity is then left out.
        with_float: float weights are an option too, whose own Ω is 0.

    Raises ZeroQError where the two tables are of other layers.
    """
    weights = {int(bits): omega[bits].to_numpy() for bits in omega.columns}
    if with_float:
        weights[FLOAT_BITS] = numpy.zeros(len(omega))
    if isinstance(activations, int):
        inputs = {activations: numpy.zeros(len(omega))}
    elif list(activations.index) != list(omega.index):
        raise ZeroQError(
            "the sensitivities of activations are not those of the layers' inputs; measure them with "
            "placement='layer_inputs'"
        )
    else:
        inputs = {int(bits): activations[bits].to_numpy() for bits in activations.columns}
    columns = {(bits, other): weights[bits] + inputs[other] for bits, other in product(weights, inputs)}
    return pandas.DataFrame(columns, index=omega.index)


def options_of(pairs: pandas.DataFrame) -> list[tuple[int, int]]:
    """The columns of ``pair_sensitivities``: (weight bits, activation bits)."""
    return cast(list[tuple[int, int]], list(pairs.columns))


def bit_operation_costs(counts: Mapping[str, int], pairs: pandas.DataFrame) -> pandas.DataFrame:
    """BOPs of each layer at each pair: multiplications × weight bits × activation bits.

    ``counts`` as from ``multiply_accumulates``; ``pairs`` as from ``pair_sensitivities``.
    """
    own = numpy.array([counts[name] for name in pairs.index], dtype=numpy.int64)
    return pandas.DataFrame({pair: own * pair[0] * pair[1] for pair in options_of(pairs)}, index=pairs.index)


def time_costs(times: pandas.DataFrame, pairs: pandas.DataFrame) -> pandas.DataFrame:
    """The time of each layer at each pair in units of ``TIME_UNIT_MS``.

    ``times`` is in milliseconds, layer × (8, 32), as ``zeroq.layer_times`` measures it: integer kernels take 8 bits, so
    that narrower widths take the time of 8.
    """
    whole = (times.loc[pairs.index] / TIME_UNIT_MS).round().astype(numpy.int64)
    kernel = {pair: FLOAT_BITS if pair[0] == FLOAT_BITS else LARGEST_BITS for pair in options_of(pairs)}
    return pandas.DataFrame({pair: whole[kernel[pair]] for pair in options_of(pairs)}, index=pairs.index)


def allocate_pairs(pairs: pandas.DataFrame, costs: pandas.DataFrame, budget: float) -> PairPlan:
    """The least sensitive plan that costs at most ``budget``, in the unit of ``costs``.

    Layers without sensitivity get the dearest pair that all layers could have within the budget. Raises ZeroQError as
    ``cost_frontier`` does, and for a budget that is no number or below the cheapest plan.
    """
    check_amount("the budget", budget)
    frontier = cost_frontier(pairs, costs, fixed=fixed_without_sensitivity(pairs, costs, budget))
    cost, sensitivity, options = frontier.within(budget)
    weights = {name: own for name, (own, _) in options.items()}
    activations = {name: own for name, (_, own) in options.items()}
    return PairPlan(weights, activations, cost, sensitivity, frontier)


def check_times(times: pandas.DataFrame) -> None:
    """Raise ZeroQError unless ``times`` holds milliseconds of layers at 8 and at 32 bits."""
    is_table = isinstance(times, pandas.DataFrame) and {LARGEST_BITS, FLOAT_BITS} <= set(times.columns)
    if not is_table or not numpy.isfinite(times.to_numpy(dtype=float)).all() or (times < 0).any(axis=None):
        raise ZeroQError(
            f"times must be a table of milliseconds, layer × ({LARGEST_BITS}, {FLOAT_BITS}), as zeroq.layer_times gives"
        )


def check_amount(what: str, amount: float) -> None:
    """Raise ZeroQError unless ``amount`` is a positive finite number."""
    if isinstance(amount, bool) or not isinstance(amount, Real) or not isfinite(amount) or amount <= 0:
        raise ZeroQError(f"{what} must be a positive finite number, not {amount!r}")
