"""Figures from the records alone.

    python -m experiments.figures [results=FOLDER]

For each network and recipe of its images: distilled images beside Gaussian ones. For each network, placement and
setting: sensitivity by layer, the Pareto frontier with the chosen plan, bits by layer. Sized for one column of a
two-column paper.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy
import pandas
from matplotlib.ticker import MaxNLocator

from experiments.collect import from_folder
from experiments.labels import GRANULARITIES, column_and_settings, recipe_label, settings_label
from experiments.results_argument import output_folder, results_argument
from zeroq.errors import ZeroQError
from zeroq.quantization.size import BITS_PER_MIB

WIDTH = 3.4  # inches: one column
COLORS = {2: "#d1495b", 3: "#e07a3f", 4: "#edae49", 5: "#9bb46c", 6: "#66a182", 7: "#2e8f9e", 8: "#00798c"}
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
    """The Pareto frontier of weight size against Ω, with uniform widths and the chosen plan."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.4))
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
    axes.legend(loc="upper right")
    return figure


def bits_figure(plan: dict[str, int], parameters: dict[str, int], title: str) -> plt.Figure:
    """Bits of every layer, above the layer's share of the weights."""
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(WIDTH, 2.4), sharex=True, height_ratios=(2, 1), layout="constrained"
    )
    layers = numpy.arange(1, len(plan) + 1)
    above.bar(layers, list(plan.values()), color=[COLORS[bits] for bits in plan.values()])
    above.set(ylabel="bits", yticks=sorted(set(plan.values()) | {0}), title=title)
    total = sum(parameters.values())
    below.bar(layers, [100 * parameters[name] / total for name in plan], color="#999999")
    below.set(xlabel="layer", ylabel="weights (%)", xlim=(0.5, len(plan) + 0.5))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
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


def main() -> None:
    results = results_argument(sys.argv[1:], __doc__)
    runs = results / "runs"
    try:
        records = from_folder(runs).records
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    folder = output_folder(results / "figures")
    with plt.rc_context(STYLE):
        for figures, words_of in ((image_figures, recipe_words), (plan_figures, setting_words)):
            for words, comparable in comparable_records(records, words_of).items():
                for name, figure in figures(words, comparable, runs):
                    figure.savefig(folder / f"{re.sub('[/ ]', '-', '-'.join(words))}-{name}.png")
                    plt.close(figure)
    print(f"Figures written to {folder}")


def comparable_records(
    records: list[dict], words_of: Callable[[dict], tuple[str, ...]]
) -> dict[tuple[str, ...], list[dict]]:
    """Records under the words that name them; of a column's seeds, the first."""
    groups: dict[tuple[str, ...], list[dict]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        column, _ = column_and_settings(record)
        group = groups.setdefault(words_of(record), [])
        first = next((other for other in group if other["column"] == column), record)
        if record["seed"] == first["seed"]:
            group.append(record | {"column": column})
    return groups


def recipe_words(record: dict) -> tuple[str, ...]:
    """The network and how its images were made: neither placement nor bits change them."""
    _, settings = column_and_settings(record)
    return tuple(filter(None, [record["model"], recipe_label(settings)]))


def setting_words(record: dict) -> tuple[str, ...]:
    """The network, placement and granularity where they are not the default, and other settings."""
    _, settings = column_and_settings(record)
    placement = "" if record["placement"] == "layer_inputs" else record["placement"]
    granularity = "" if record["granularity"] == "per_channel" else GRANULARITIES[record["granularity"]]
    return tuple(filter(None, [record["model"], placement, granularity, settings_label(settings)]))


def image_figures(words: tuple[str, ...], records: list[dict], runs: Path):
    """(name, figure) of the images of one network and recipe."""
    pictures = {}
    for column, (kind, file) in {
        "ZeroQ": ("distilled", "distilled.png"),
        "ZeroQ, bounded": ("distilled, bounded", "distilled.png"),
        "Gaussian": ("Gaussian", "calibration.png"),
    }.items():
        found = [runs / r["run"] / file for r in records if r["column"] == column and (runs / r["run"] / file).exists()]
        if found:
            pictures[kind] = found[0]
    if pictures:
        yield "images", images_figure(pictures, ", ".join(words))


def plan_figures(words: tuple[str, ...], records: list[dict], runs: Path):
    """(name, figure) pairs of the sensitivities and plans of one network, placement and setting."""
    published = [record for record in records if record["column"] == "ZeroQ"]
    zeroq = published or [record for record in records if record["method"] == "zeroq"]
    if not zeroq:
        return

    def heading(what: str) -> str:
        network, *rest = words
        # Settings can be long: they get a line of their own.
        return "\n".join(filter(None, [f"{network}: {what}", ", ".join(rest)]))

    sensitivity = read_sensitivity(runs / zeroq[0]["run"])
    yield "sensitivity", sensitivity_figure(sensitivity, heading("sensitivity by layer"))
    for record in (record for record in zeroq if str(record["w_bits"]).startswith("MP")):
        folder = runs / record["run"]
        omega, parameters = read_sensitivity(folder), record["parameters"]
        label = f"{record['w_bits']}/A{record['a_bits']}"
        chosen = {
            "label": label,
            "plan": size_and_cost(record["plan"], omega, parameters),
            "uniform": {
                bits: size_and_cost(dict.fromkeys(record["plan"], bits), omega, parameters) for bits in omega.columns
            },
        }
        frontier = pandas.read_csv(folder / "frontier.csv")
        suffix = label.replace("/", "").lower()
        yield f"frontier-{suffix}", frontier_figure(frontier, chosen, heading("Pareto frontier"))
        yield f"bits-{suffix}", bits_figure(record["plan"], parameters, heading(f"bits by layer, {label}"))


def read_sensitivity(folder: Path) -> pandas.DataFrame:
    """Layer × bits, with integer bits."""
    return pandas.read_csv(folder / "sensitivity.csv", index_col="layer").rename(columns=int)


def size_and_cost(plan: dict[str, int], omega: pandas.DataFrame, parameters: dict[str, int]) -> tuple[float, float]:
    """(MiB of weights, Σ Ω) of a plan."""
    bits = sum(parameters[name] * width for name, width in plan.items())
    return bits / BITS_PER_MIB, sum(omega.loc[name, width] for name, width in plan.items())


if __name__ == "__main__":
    main()
