"""Score against size: all methods, each with its own settings."""

from collections.abc import Iterator
from functools import partial

import matplotlib.pyplot as plt
import pandas

from experiments.analysis.collection import Collection
from experiments.analysis.columns import column_of, column_order
from experiments.analysis.labels import GRANULARITIES, METRICS
from experiments.analysis.selection import plain_runs
from experiments.analysis.style import WIDTH, NamedFigure

ORDER = 60
# With 8 bits or as many as the weights have for activations, one setting a size.
SHOWN_BITS = ("W8/A8", "W6/A6", "W4/A8", "MP6/A8", "MP6/A6", "MP4/A8")


def figures(collection: Collection) -> Iterator[NamedFigure]:
    """One of each network and placement that was run with more than two settings of bits."""
    runs = plain_runs(collection.records, besides=("placement",))
    shown = runs[runs.bits.isin(SHOWN_BITS)]
    for (model, placement), same in shown.groupby(["model", "placement"]):
        if same.bits.nunique() > 2:
            words = [model, *([] if placement == "layer_inputs" else [placement])]
            title = f"{', '.join(words)}: score against size"
            full, label = same.fp32_value.iloc[0], METRICS[same.metric.iloc[0]]
            yield (*words, "scores"), partial(draw, score_points(same), full, title, label)


def score_points(runs: pandas.DataFrame) -> pandas.DataFrame:
    """Size, mean score and its standard deviation over seeds of each method at each setting of bits."""
    seeds = runs.groupby(["column", "bits"])
    points = seeds.agg(size_mib=("size_mib", "mean"), value=("value", "mean"), deviation=("value", "std")).fillna(0)
    points["granularity"] = seeds.granularity.first().map(GRANULARITIES)
    points = points.reset_index().rename(columns={"column": "method"})
    points["mixed"] = points.bits.str.startswith("MP")
    return points.sort_values("method", key=lambda methods: methods.map(column_order), kind="stable")


def draw(scores: pandas.DataFrame, full: float, title: str, ylabel: str) -> plt.Figure:
    """Score against size: uniform widths joined by lines, mixed precision as stars.

    ``scores`` has the columns method, granularity, bits, mixed, size_mib, value and deviation (over seeds); ``full`` is
    the float network's score. Methods of one size stand side by side, or they would hide each other.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 2.4))
    methods = list(scores.method.unique())
    apart = 0.012 * (scores.size_mib.max() - scores.size_mib.min())
    for place, method in enumerate(methods):
        points = scores[scores.method == method].sort_values("size_mib")
        points = points.assign(size_mib=points.size_mib + apart * (place - (len(methods) - 1) / 2))
        uniform, mixed = (points[points.mixed == kind] for kind in (False, True))
        style = {"color": column_of(method).color, "linewidth": 1, "elinewidth": 0.7, "capsize": 1.5}
        axes.errorbar(uniform.size_mib, uniform.value, uniform.deviation, marker="o", markersize=2.5, **style)
        axes.errorbar(mixed.size_mib, mixed.value, mixed.deviation, fmt="*", markersize=6, zorder=3, **style)
        own = points.granularity.iloc[0]
        label = method.rstrip("*") if own == scores.granularity.mode()[0] else f"{method}, {own}"
        axes.plot([], [], marker="o", markersize=2.5, linewidth=1, color=style["color"], label=label)
    axes.axhline(full, linewidth=1, linestyle=":", color="#444444")
    right = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    axes.annotate("FP32", (1, full), (2, 0), **right)
    for (bits, mixed), same in scores.groupby(["bits", "mixed"]):
        # Uniform widths along the lower edge, mixed ones along the upper: MP4/A8 has the size of W4/A8.
        place, offset = (same.size_mib.mean(), 1 if mixed else 0), (0, -7 if mixed else 3)
        how = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
        axes.annotate(bits, place, offset, **how, color="#777777", fontsize=6)
    axes.margins(x=0.08, y=0.12)
    axes.set(xlabel="size (MiB), methods side by side; stars: mixed precision", ylabel=ylabel, title=title)
    axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, columnspacing=1)
    return figure
