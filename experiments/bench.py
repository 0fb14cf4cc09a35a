"""Time the exact Pareto frontier of networks of many layers.

python -m experiments.bench
"""

import time

import numpy
import pandas

from zeroq.precision.frontier import pareto_frontier
from zeroq.precision.sensitivity import SensitivityTable

WIDTHS = (2, 3, 4, 5, 6, 7, 8)


def random_table(layers: int, *, seed: int) -> SensitivityTable:
    """Sensitivities that fall about fourfold a bit, as measured ones do, of convolutions of usual sizes."""
    generator = numpy.random.default_rng(seed)
    channels = 2 ** generator.integers(4, 10, (layers, 2))
    parameters = channels.prod(axis=1) * generator.choice([1, 9], layers)
    levels = generator.normal(-4, 2, (layers, 1)) - numpy.log(4) * (numpy.array(WIDTHS) - 2)
    names = [f"layer{index}" for index in range(layers)]
    values = pandas.DataFrame(
        numpy.exp(levels + generator.normal(0, 0.3, (layers, len(WIDTHS)))), index=names, columns=WIDTHS
    )
    return SensitivityTable.of(values, dict(zip(names, parameters.tolist(), strict=True)))


def main() -> None:
    rows = []
    for layers in (20, 50, 100, 200, 500):
        started = time.perf_counter()
        frontier = pareto_frontier(random_table(layers, seed=0))
        rows.append({"Layers": layers, "Points": len(frontier), "Seconds": f"{time.perf_counter() - started:.2f}"})
    print(pandas.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
