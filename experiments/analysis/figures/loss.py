"""The BatchNorm loss (Eq. 3) of images while they are distilled."""

from collections.abc import Iterator
from functools import partial

import matplotlib.pyplot as plt
import pandas

from experiments.analysis.collection import Collection
from experiments.analysis.columns import column_of
from experiments.analysis.selection import by_recipe
from experiments.analysis.style import WIDTH, NamedFigure

ORDER = 20


def figures(collection: Collection) -> Iterator[NamedFigure]:
    """One of each network and recipe that images were distilled by."""
    for words, records in by_recipe(collection.records).items():
        chosen: dict[str, dict] = {}
        for record in records:
            # A variant of one's own may take other images than the method's.
            if column_of(record["column"]).distills and record["distill_loss"] is not None:
                chosen.setdefault(record["column"], record)
        if chosen:
            yield (*words, "loss"), partial(draw_runs, chosen, collection, f"{', '.join(words)}: BatchNorm loss")


def draw_runs(records: dict[str, dict], collection: Collection, title: str) -> plt.Figure:
    """Column → a record with the loss of its images."""
    losses = {column: collection.losses(record) for column, record in records.items()}
    noise = [record["gaussian_loss"] for record in records.values()][-1]
    return draw(losses, noise, title)


def draw(losses: dict[str, pandas.Series], noise: float, title: str) -> plt.Figure:
    """Each recipe's loss over its iterations, on a logarithmic scale, and that of Gaussian noise."""
    figure, axes = plt.subplots(figsize=(WIDTH, 2.2))
    for column, loss in losses.items():
        axes.plot(loss.index, loss, linewidth=1, color=column_of(column).color, label=column)
    axes.axhline(noise, linewidth=1, linestyle=":", color="#444444", label="Gaussian noise")
    axes.set(xlabel="iteration", ylabel="BatchNorm loss", title=title, yscale="log")
    axes.legend()
    return figure
