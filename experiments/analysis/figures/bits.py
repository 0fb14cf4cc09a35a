"""Bits by layer."""

from collections.abc import Iterator
from functools import partial

import matplotlib.pyplot as plt
import numpy
from matplotlib.ticker import MaxNLocator

from experiments.analysis.collection import Collection
from experiments.analysis.labels import bits_label
from experiments.analysis.selection import mixed, zeroq_by_setting
from experiments.analysis.style import BITS_COLORS, WIDTH, NamedFigure, heading

ORDER = 50


def figures(collection: Collection) -> Iterator[NamedFigure]:
    """One of each network, placement and setting with a mixed plan."""
    for words, records in zeroq_by_setting(collection.records).items():
        if chosen := mixed(records):
            plans = {bits_label(record): record["plan"] for record in chosen}
            yield (*words, "bits"), partial(draw, plans, chosen[0]["parameters"], heading(words, "bits by layer"))


def draw(plans: dict[str, dict[str, int]], parameters: dict[str, int], title: str) -> plt.Figure:
    """Bits of every layer in each plan, above the layers' shares of the weights."""
    figure, panels = plt.subplots(
        len(plans) + 1,
        1,
        figsize=(WIDTH, 1.0 + 1.2 * len(plans)),
        sharex=True,
        height_ratios=(*[2] * len(plans), 1),
        layout="constrained",
    )
    layers = numpy.arange(1, len(parameters) + 1)
    for axes, (label, plan) in zip(panels, plans.items(), strict=False):
        axes.bar(layers, list(plan.values()), color=[BITS_COLORS[bits] for bits in plan.values()])
        axes.set(ylabel=f"bits, {label}", yticks=sorted(set(plan.values()) | {0}))
    panels[0].set_title(title)
    total = sum(parameters.values())
    panels[-1].bar(layers, [100 * count / total for count in parameters.values()], color="#999999")
    panels[-1].set(xlabel="layer", ylabel="weights (%)", xlim=(0.5, len(layers) + 0.5))
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
