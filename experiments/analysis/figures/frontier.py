"""The Pareto frontier of weight size against Ω, with the chosen plan over random ones."""

from collections.abc import Iterable, Iterator
from functools import partial

import matplotlib.pyplot as plt
import numpy
import pandas

from experiments.analysis.collection import Collection
from experiments.analysis.labels import bits_label
from experiments.analysis.selection import mixed, zeroq_by_setting
from experiments.analysis.style import BITS_COLORS, WIDTH, NamedFigure, heading
from zeroq.quantization.size import BITS_PER_MIB

ORDER = 40
RANDOM_PLANS = 2000


def figures(collection: Collection) -> Iterator[NamedFigure]:
    """One of each mixed plan."""
    for words, records in zeroq_by_setting(collection.records).items():
        for record in mixed(records):
            suffix = bits_label(record).replace("/", "").lower()
            title = heading(words, "Pareto frontier")
            yield (*words, f"frontier-{suffix}"), partial(draw_run, record, collection, title)


def draw_run(record: dict, collection: Collection, title: str) -> plt.Figure:
    """The frontier that a record's plan was chosen from."""
    return draw(collection.frontier(record), plans_beside(record, collection.sensitivity(record)), title)


def plans_beside(record: dict, omega: pandas.DataFrame) -> dict:
    """Size and Ω of a record's plan, of uniform ones, and of random ones."""
    parameters = record["parameters"]
    counts, costs = numpy.array(list(parameters.values())), omega.loc[list(parameters)].to_numpy()
    random = numpy.random.default_rng(0)
    # Each plan mixes the widths in proportions of its own, so that the cloud covers all sizes.
    shares = random.dirichlet(numpy.ones(len(omega.columns)), RANDOM_PLANS)
    drawn = numpy.array([random.choice(len(omega.columns), len(counts), p=share) for share in shares])
    sizes = (numpy.array(omega.columns)[drawn] * counts).sum(1) / BITS_PER_MIB
    return {
        "label": bits_label(record),
        "plan": size_and_cost(record["plan"], omega, parameters),
        "uniform": {
            bits: size_and_cost(dict.fromkeys(record["plan"], bits), omega, parameters) for bits in omega.columns
        },
        "random": (sizes, rounded(costs[numpy.arange(len(counts)), drawn].sum(1))),
    }


def size_and_cost(plan: dict[str, int], omega: pandas.DataFrame, parameters: dict[str, int]) -> tuple[float, float]:
    """(MiB of weights, Σ Ω) of a plan."""
    bits = sum(parameters[name] * width for name, width in plan.items())
    return bits / BITS_PER_MIB, sum(omega.loc[name, width] for name, width in plan.items())


def rounded(costs: Iterable[float]) -> numpy.ndarray:
    """To 12 digits: processors add in other orders, and what differs behind them would move a pixel."""
    return numpy.array([float(f"{cost:.12g}") for cost in costs])


def draw(frontier: pandas.DataFrame, chosen: dict, title: str) -> plt.Figure:
    """The Pareto frontier of weight size against Ω under random plans, with uniform widths and the chosen plan."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.4))
    size, cost = chosen["random"]
    axes.scatter(size, cost, s=2, color="#b8c7d3", linewidth=0, label="random plans")
    axes.plot(
        frontier.size_bits / BITS_PER_MIB,
        rounded(frontier.sensitivity),
        drawstyle="steps-post",
        linewidth=1,
        color="#444444",
        label="Pareto frontier",
    )
    for bits, (size, cost) in chosen["uniform"].items():
        axes.scatter(size, cost, marker="s", s=18, color=BITS_COLORS[bits], zorder=3)
        axes.annotate(f"all {bits} bits", (size, cost), (0, 5), textcoords="offset points", ha="center")
    size, cost = chosen["plan"]
    axes.scatter(size, cost, marker="*", s=90, color="#d1495b", zorder=4, label=f"chosen: {chosen['label']}")
    axes.set(xlabel="size of the weights (MiB)", ylabel="sum of sensitivities Ω (nats)", title=title, yscale="log")
    axes.margins(x=0.12, y=0.12)
    axes.legend(loc="lower left")
    return figure
