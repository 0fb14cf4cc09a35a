"""Tables of sensitivities, and their frontier by brute force."""

from itertools import product

import numpy
import pandas
import pytest

from zeroq.mixed_precision.sensitivity import SensitivityTable


def table(values: numpy.ndarray, parameters, bits) -> SensitivityTable:
    names = [f"layer{index}" for index in range(len(values))]
    frame = pandas.DataFrame(values, index=names, columns=list(bits))
    return SensitivityTable.of(frame, dict(zip(names, map(int, parameters), strict=True)))


def brute_force(omega: SensitivityTable) -> list[tuple[int, float]]:
    choices = [[(omega.parameters[name] * k, omega.loc[name, k]) for k in omega.columns] for name in omega.index]
    plans = sorted(tuple(sum(column) for column in zip(*plan, strict=True)) for plan in product(*choices))
    frontier, best = [], float("inf")
    for size, cost in plans:
        if cost < best:
            frontier.append((size, cost))
            best = cost
    return frontier


def assert_plans_add_up(omega: SensitivityTable, points) -> None:
    for point in points:
        assert list(point.plan) == list(omega.index)
        assert sum(omega.parameters[name] * bits for name, bits in point.plan.items()) == point.size_bits
        cost = sum(omega.loc[name, bits] for name, bits in point.plan.items())
        assert point.sensitivity == pytest.approx(cost, rel=1e-12)
