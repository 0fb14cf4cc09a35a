"""Figures from the records alone.

    python -m experiments.figures [results=FOLDER]

For each network and recipe of its images: the images beside each other, and their loss while they were distilled. For
each network, placement and setting: score against size, sensitivity by layer, the Pareto frontier with the chosen plan
over random ones, bits by layer. For each sweep over more than two values of a setting: the score at each.

The folder ``figures`` holds nothing else: pictures in it that no record stands behind are removed.
"""

import io
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy
import pandas
from PIL import Image

from experiments.analysis.collection import from_folder
from experiments.analysis.columns import column_and_settings, column_order
from experiments.analysis.labels import (
    GRANULARITIES,
    METRICS,
    bits_label,
    bits_order,
    recipe_label,
    settings_label,
)
from experiments.analysis.plots import (
    STYLE,
    bits_figure,
    frontier_figure,
    images_figure,
    loss_figure,
    score_figure,
    sensitivity_figure,
    sweep_figure,
)
from experiments.analysis.selection import compared, plain_runs, sweeps
from experiments.cli.words import output_folder, remove_others, results_argument, tell_omissions
from zeroq.errors import ZeroQError
from zeroq.quantization.size import BITS_PER_MIB

# Column → how its images are called, and the record's file that shows them.
PICTURES = {
    "Real data*": ("real", "calibration.png"),
    "ZeroQ": ("distilled", "distilled.png"),
    "ZeroQ, bounded": ("distilled, bounded", "distilled.png"),
    "ZeroQ, fast": ("distilled, fast", "distilled.png"),
    "Gaussian": ("Gaussian", "calibration.png"),
}
LOSSES = ("ZeroQ", "ZeroQ, bounded", "ZeroQ, fast")
# With 8 bits or as many as the weights have for activations, one setting a size.
SHOWN_BITS = ("W8/A8", "W6/A6", "W4/A8", "MP6/A8", "MP6/A6", "MP4/A8")
RANDOM_PLANS = 2000
Figures = Iterator[tuple[tuple[str, ...], plt.Figure]]


def main() -> None:
    results = results_argument(sys.argv[1:], __doc__)
    runs = results / "runs"
    try:
        used = from_folder(runs)
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    folder = output_folder(results / "figures")
    made = []
    with plt.rc_context(STYLE):
        for words, figure in figures(used.records, runs):
            made.append(re.sub("[/ ]", "-", "-".join(words)))
            save(figure, folder / f"{made[-1]}.png")
    print(f"{len(made)} figures written to {folder}")
    remove_others(folder, made, [".png"])
    tell_omissions(used)


def figures(records: list[dict], runs: Path) -> Figures:
    """Every figure with the words that name it; a file of a run that cannot be read costs the figures that show it."""
    chosen = compared(records)
    for kind, words_of in ((image_figures, recipe_words), (plan_figures, setting_words)):
        for words, comparable in comparable_records(chosen, words_of).items():
            try:
                for name, figure in kind(words, comparable, runs):
                    yield (*words, name), figure
            except (OSError, ValueError, LookupError) as error:
                print(f"Left out: figures of {', '.join(words)} ({error})", file=sys.stderr)
    yield from score_figures(records)
    yield from sweep_figures(records)


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure as a PNG of 256 colours, a third of the size, and the same bytes for the same figure."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


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
    """(name, figure) of the images of one network and recipe, and of their loss while they were distilled."""
    pictures = {}
    for column, (kind, file) in PICTURES.items():
        found = [runs / r["run"] / file for r in records if r["column"] == column and (runs / r["run"] / file).exists()]
        if found:
            pictures[kind] = found[0]
    if pictures:
        yield "images", images_figure(pictures, ", ".join(words))
    losses = {}
    for record in records:
        # A variant of one's own may take other images than the method's.
        if record["column"] in LOSSES and record["column"] not in losses and record["distill_loss"] is not None:
            file = runs / record["run"] / "distill_loss.csv"
            losses[record["column"]] = pandas.read_csv(file, index_col="iteration").loss
            noise = record["gaussian_loss"]
    if losses:
        yield "loss", loss_figure(losses, noise, f"{', '.join(words)}: BatchNorm loss")


def plan_figures(words: tuple[str, ...], records: list[dict], runs: Path):
    """(name, figure) pairs of the sensitivities, plans and scores of one network, placement and setting."""
    published = [record for record in records if record["column"] == "ZeroQ"]
    zeroq = published or [record for record in records if record["method"] == "zeroq"]

    def heading(what: str) -> str:
        network, *rest = words
        # Settings can be long: they get a line of their own.
        return "\n".join(filter(None, [f"{network}: {what}", ", ".join(rest)]))

    if not zeroq:
        return
    yield "sensitivity", sensitivity_figure(read_sensitivity(runs / zeroq[0]["run"]), heading("sensitivity by layer"))
    mixed = sorted((r for r in zeroq if str(r["w_bits"]).startswith("MP")), key=lambda r: bits_order(bits_label(r)))
    for record in mixed:
        folder = runs / record["run"]
        chosen = plans_beside(record, read_sensitivity(folder))
        frontier = pandas.read_csv(folder / "frontier.csv")
        suffix = chosen["label"].replace("/", "").lower()
        yield f"frontier-{suffix}", frontier_figure(frontier, chosen, heading("Pareto frontier"))
    if mixed:
        plans = {bits_label(record): record["plan"] for record in mixed}
        yield "bits", bits_figure(plans, mixed[0]["parameters"], heading("bits by layer"))


def sweep_figures(records: list[dict]) -> Figures:
    """(words, figure) of every sweep over more than two values of a setting: two are no curve."""
    for key, runs in sweeps(records).items():
        levels = pandas.DataFrame(runs)
        if levels.level.nunique() > 2:
            defaults = ("layer_inputs", GRANULARITIES["per_channel"], "ZeroQ", "")
            others = [word for word in (key.placement, key.weights, key.method, key.settings) if word not in defaults]
            # Settings can be long: they get a line of their own.
            title = "\n".join(filter(None, [key.network, ", ".join(others)])) + f": {key.setting}"
            yield (key.network, *others, "sweep", key.setting), sweep_figure(levels, title, axis_of(levels))


def score_figures(records: list[dict]) -> Figures:
    """(words, figure) of score against size for each network and placement: all methods, each with its own settings."""
    runs = plain_runs(records, besides=("placement",))
    shown = runs[runs.bits.isin(SHOWN_BITS)]
    for (model, placement), same in shown.groupby(["model", "placement"]):
        if same.bits.nunique() > 2:
            words = [model, *([] if placement == "layer_inputs" else [placement])]
            title = f"{', '.join(words)}: score against size"
            yield (*words, "scores"), score_figure(score_points(same), same.fp32_value.iloc[0], title, axis_of(same))


def axis_of(runs: pandas.DataFrame) -> str:
    """What an axis of scores is called."""
    return METRICS[runs.metric.iloc[0]]


def score_points(runs: pandas.DataFrame) -> pandas.DataFrame:
    """Size, mean score and its standard deviation over seeds of each method at each setting of bits."""
    seeds = runs.groupby(["column", "bits"])
    points = seeds.agg(size_mib=("size_mib", "mean"), value=("value", "mean"), deviation=("value", "std")).fillna(0)
    points["granularity"] = seeds.granularity.first().map(GRANULARITIES)
    points = points.reset_index().rename(columns={"column": "method"})
    points["mixed"] = points.bits.str.startswith("MP")
    return points.sort_values("method", key=lambda methods: methods.map(column_order), kind="stable")


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
        "random": (sizes, costs[numpy.arange(len(counts)), drawn].sum(1)),
    }


def read_sensitivity(folder: Path) -> pandas.DataFrame:
    """Layer × bits, with integer bits."""
    return pandas.read_csv(folder / "sensitivity.csv", index_col="layer").rename(columns=int)


def size_and_cost(plan: dict[str, int], omega: pandas.DataFrame, parameters: dict[str, int]) -> tuple[float, float]:
    """(MiB of weights, Σ Ω) of a plan."""
    bits = sum(parameters[name] * width for name, width in plan.items())
    return bits / BITS_PER_MIB, sum(omega.loc[name, width] for name, width in plan.items())


if __name__ == "__main__":
    main()
