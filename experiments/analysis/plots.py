"""How each figure is drawn, for one column of a two-column paper."""

from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy
import pandas
from matplotlib.ticker import MaxNLocator

from zeroq.quantization.size import BITS_PER_MIB

WIDTH = 3.4  # inches: one column
COLORS = {2: "#d1495b", 3: "#e07a3f", 4: "#edae49", 5: "#9bb46c", 6: "#66a182", 7: "#2e8f9e", 8: "#00798c"}
METHOD_COLORS = {
    "ZeroQ": "#d1495b",
    "ZeroQ, bounded": "#00798c",
    "ZeroQ, fast": "#9bb46c",
    "Gaussian": "#edae49",
    "Naive": "#999999",
    "DFQ": "#66a182",
    "ZeroQ, biases": "#e07a3f",
    "ZeroQ + DFQ": "#7d5ba6",
    "Real data*": "#222222",
}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.bbox": "tight",
    "savefig.dpi": 300,
}


def sensitivity_figure(table: pandas.DataFrame, title: str) -> plt.Figure:
    """Ω of every layer, one line a bit width, on a logarithmic scale."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.2))
    layers = numpy.arange(1, len(table) + 1)
    # A logarithmic scale has no place for the layers that the class scores do not depend on.
    measured = table.where(table > 0)
    for bits in table.columns:
        axes.plot(layers, measured[bits], marker="o", markersize=2.5, linewidth=1, color=COLORS[int(bits)])
        for value in measured[bits].dropna().tail(1):
            axes.annotate(
                f"{bits} bits",
                (layers[-1], value),
                (4, 0),
                textcoords="offset points",
                va="center",
                color=COLORS[int(bits)],
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


def frontier_figure(frontier: pandas.DataFrame, chosen: dict, title: str) -> plt.Figure:
    """The Pareto frontier of weight size against Ω under random plans, with uniform widths and the chosen plan."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.4))
    size, cost = chosen["random"]
    axes.scatter(size, cost, s=2, color="#b8c7d3", linewidth=0, label="random plans")
    axes.plot(
        frontier.size_bits / BITS_PER_MIB,
        frontier.sensitivity,
        drawstyle="steps-post",
        linewidth=1,
        color="#444444",
        label="Pareto frontier",
    )
    for bits, (size, cost) in chosen["uniform"].items():
        axes.scatter(size, cost, marker="s", s=18, color=COLORS[bits], zorder=3)
        axes.annotate(f"all {bits} bits", (size, cost), (0, 5), textcoords="offset points", ha="center")
    size, cost = chosen["plan"]
    axes.scatter(size, cost, marker="*", s=90, color="#d1495b", zorder=4, label=f"chosen: {chosen['label']}")
    axes.set(xlabel="size of the weights (MiB)", ylabel="sum of sensitivities Ω (nats)", title=title, yscale="log")
    axes.margins(x=0.12, y=0.12)
    axes.legend(loc="lower left")
    return figure


def bits_figure(plans: dict[str, dict[str, int]], parameters: dict[str, int], title: str) -> plt.Figure:
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
        axes.bar(layers, list(plan.values()), color=[COLORS[bits] for bits in plan.values()])
        axes.set(ylabel=f"bits, {label}", yticks=sorted(set(plan.values()) | {0}))
    panels[0].set_title(title)
    total = sum(parameters.values())
    panels[-1].bar(layers, [100 * count / total for count in parameters.values()], color="#999999")
    panels[-1].set(xlabel="layer", ylabel="weights (%)", xlim=(0.5, len(layers) + 0.5))
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def loss_figure(losses: dict[str, pandas.Series], noise: float, title: str) -> plt.Figure:
    """BatchNorm loss of each recipe over its iterations, on a logarithmic scale, and that of Gaussian noise."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.2))
    for (recipe, loss), color in zip(losses.items(), cycle(METHOD_COLORS.values())):
        axes.plot(loss.index, loss, linewidth=1, color=color, label=recipe)
    axes.axhline(noise, linewidth=1, linestyle=":", color="#444444", label="Gaussian noise")
    axes.set(xlabel="iteration", ylabel="BatchNorm loss", title=title, yscale="log")
    axes.legend()
    return figure


def score_figure(scores: pandas.DataFrame, full: float, title: str, ylabel: str) -> plt.Figure:
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
        style = {"color": METHOD_COLORS.get(method, "#444444"), "linewidth": 1, "elinewidth": 0.7, "capsize": 1.5}
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


def sweep_figure(levels: pandas.DataFrame, title: str, ylabel: str) -> plt.Figure:
    """Score at each value of a setting, one line a setting of bits; the default's label is bold.

    ``levels`` has the columns level, default, bits, value and fp32_value, in the order of the levels.
    """
    figure, axes = plt.subplots(figsize=(WIDTH, 2.2))
    places = {level: place for place, level in enumerate(levels.level.unique())}
    full = levels.fp32_value.iloc[0]
    beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center"}
    for (bits, runs), color in zip(levels.groupby("bits"), cycle(METHOD_COLORS.values())):
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


def images_figure(pictures: dict[str, Path], title: str) -> plt.Figure:
    """Calibration images of each kind side by side."""
    images = {kind: plt.imread(path) for kind, path in pictures.items()}
    width = 2 * WIDTH / len(images)
    height = width * max(image.shape[0] / image.shape[1] for image in images.values())
    figure, columns = plt.subplots(
        1, len(images), figsize=(2 * WIDTH, height + 0.4), layout="constrained", squeeze=False
    )
    for axes, (kind, image) in zip(columns[0], images.items(), strict=True):
        axes.imshow(image, cmap="gray", interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(kind)
    figure.suptitle(title, fontsize=9)
    return figure
