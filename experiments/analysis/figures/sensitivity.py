"""Sensitivity by layer."""

from collections.abc import Iterator
from functools import partial

import matplotlib.pyplot as plt
import numpy
import pandas
from matplotlib.ticker import MaxNLocator

from experiments.analysis.collection import Collection
from experiments.analysis.selection import zeroq_by_setting
from experiments.analysis.style import BITS_COLORS, WIDTH, NamedFigure, heading

ORDER = 30


def figures(collection: Collection) -> Iterator[NamedFigure]:
    """One of each network, placement and setting."""
    for words, records in zeroq_by_setting(collection.records).items():
        yield (*words, "sensitivity"), partial(draw_run, records[0], collection, heading(words, "sensitivity by layer"))


def draw_run(record: dict, collection: Collection, title: str) -> plt.Figure:
    """Ω of a record's run."""
    return draw(collection.sensitivity(record), title)


def draw(table: pandas.DataFrame, title: str) -> plt.Figure:
    """Ω of every layer, one line a bit width, on a logarithmic scale."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.2))
    layers = numpy.arange(1, len(table) + 1)
    # A logarithmic scale has no place for the layers that the class scores do not depend on.
    measured = table.where(table > 0)
    for bits in table.columns:
        axes.plot(layers, measured[bits], marker="o", markersize=2.5, linewidth=1, color=BITS_COLORS[int(bits)])
        for value in measured[bits].dropna().tail(1):
            axes.annotate(
                f"{bits} bits",
                (layers[-1], value),
                (4, 0),
                textcoords="offset points",
                va="center",
                color=BITS_COLORS[int(bits)],
            )
    unmeasured = layers[measured.isna().all(axis=1)]
    for layer in unmeasured:
        label = "Ω = 0" if layer == unmeasured[0] else None
        axes.axvspan(layer - 0.5, layer + 0.5, color="#e8e8e8", linewidth=0, label=label)
    if len(unmeasured):
        axes.legend(loc="lower left")
    axes.set(xlabel="layer", ylabel="sensitivity Ω (nats)", title=title, yscale="log", xlim=(0.5, len(table) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
