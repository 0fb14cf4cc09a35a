"""The score at each value of one setting, with all else the same."""

from collections.abc import Iterator
from functools import partial
from itertools import cycle

import matplotlib.pyplot as plt
import pandas

from experiments.analysis.collection import Collection
from experiments.analysis.labels import GRANULARITIES, METRICS
from experiments.analysis.selection import sweeps
from experiments.analysis.style import LINE_COLORS, WIDTH, NamedFigure

ORDER = 70


def figures(collection: Collection) -> Iterator[NamedFigure]:
    """One of every sweep over more than two values of a setting: two are no curve."""
    for key, runs in sweeps(collection.records).items():
        levels = pandas.DataFrame(runs)
        if levels.level.nunique() > 2:
            defaults = ("layer_inputs", GRANULARITIES["per_channel"], "ZeroQ", "")
            others = [word for word in (key.placement, key.weights, key.method, key.settings) if word not in defaults]
            # Settings can be long: they get a line of their own.
            title = "\n".join(filter(None, [key.network, ", ".join(others)])) + f": {key.setting}"
            label = METRICS[levels.metric.iloc[0]]
            yield (key.network, *others, "sweep", key.setting), partial(draw, levels, title, label)


def draw(levels: pandas.DataFrame, title: str, ylabel: str) -> plt.Figure:
    """Score at each value of a setting, one line a setting of bits; the default's label is bold.

    ``levels`` has the columns level, default, bits, value and fp32_value, in the order of the levels.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 2.2))
    places = {level: place for place, level in enumerate(levels.level.unique())}
    full = levels.fp32_value.iloc[0]
    beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
    for (bits, runs), color in zip(levels.groupby("bits"), cycle(LINE_COLORS)):
        scores = runs.groupby("level", sort=False).value
        means, deviations = scores.mean(), scores.std().fillna(0)
        xs = [places[level] for level in means.index]
        axes.errorbar(xs, means, deviations, marker="o", markersize=3, linewidth=1, capsize=2, color=color)
        axes.annotate(bits, (xs[-1], means.iloc[-1]), color=color, **beside)
    axes.axhline(full, linewidth=1, linestyle=":", color="#444444")
    axes.annotate("FP32", (0, full), (2, 2), xycoords=("axes fraction", "data"), textcoords="offset points")
    # What differs by a fraction of a percent should not look like a valley.
    lowest, highest = axes.get_ylim()
    missing = max(0.02 * full - (highest - lowest), 0)
    axes.set_ylim(lowest - missing / 2, highest + missing / 2)
    axes.set(xlabel=f"{title.rpartition(': ')[2]} (bold: default)", ylabel=ylabel, title=title)
    axes.set_xticks(list(places.values()), list(places))
    for level in levels.level[levels.default]:
        axes.get_xticklabels()[places[level]].set_fontweight("bold")
    return figure
