"""Sensitivity by layer as noise, distilled and real images measure it, and how alike they order the layers."""

from collections.abc import Iterator, Mapping
from functools import partial

import matplotlib.pyplot as plt
import numpy
import pandas
from scipy.stats import spearmanr

from experiments.analysis.collection import Collection
from experiments.analysis.columns import column_of
from experiments.analysis.selection import plain_runs
from experiments.analysis.style import NamedFigure, small_multiples

ORDER = 35
COLUMNS = ("Gaussian", "ZeroQ", "Real data*")
REAL = COLUMNS[-1]


def figures(collection: Collection) -> Iterator[NamedFigure]:
    """One of all networks that were measured with real images and with others."""
    if chosen := records_by_network(collection.records):
        yield ("sensitivity-by-images",), partial(draw_runs, chosen, collection)


def records_by_network(records: list[dict]) -> dict[str, dict[str, dict]]:
    """Network → column → a record with default settings: in mixed precision where there is one, of the first seed."""
    runs = plain_runs(records)
    runs = runs[runs.column.isin(COLUMNS)].assign(uniform=lambda all_: ~all_.w_bits.str.startswith("MP"))
    by_run = {record["run"]: record for record in records}
    chosen: dict[str, dict[str, dict]] = {}
    for (model, column), group in runs.groupby(["model", "column"]):
        first = group.sort_values(["uniform", "seed", "run"]).run.iloc[0]
        chosen.setdefault(model, {})[column] = by_run[first]
    return {model: own for model, own in chosen.items() if REAL in own and len(own) > 1}


def draw_runs(chosen: Mapping[str, Mapping[str, dict]], collection: Collection) -> plt.Figure:
    """Ω of the records' runs."""
    return draw(
        {
            model: {column: collection.sensitivity(own[column]) for column in COLUMNS if column in own}
            for model, own in chosen.items()
        }
    )


def draw(tables: Mapping[str, Mapping[str, pandas.DataFrame]]) -> plt.Figure:
    """Ω at the middle one of the widths that all images were measured with, a panel a network, a line a kind."""
    figure, panels = small_multiples(len(tables), "layer", "Ω (nats)")
    for axes, (model, own) in zip(panels, tables.items(), strict=True):
        width = middle_width(own)
        for column, table in own.items():
            kind = column_of(column)
            layers = numpy.arange(1, len(table) + 1)
            # A logarithmic scale has no place for the layers that the class scores do not depend on.
            axes.plot(layers, table[width].where(table[width] > 0), linewidth=0.8, color=kind.color, label=kind.images)
        found = rank_correlations(own, width)
        said = ", ".join(f"{column_of(column).images} {value:.2f}" for column, value in found.items())
        axes.set_xlim(1, len(layers))
        axes.set_title(f"{model}, {width} bits\nρ: {said}", fontsize=7)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(COLUMNS))
    return figure


def middle_width(tables: Mapping[str, pandas.DataFrame]) -> int:
    """The middle one of the widths that all tables have; raises ValueError where they share none."""
    shared = sorted(set.intersection(*(set(table.columns) for table in tables.values())))
    if not shared:
        raise ValueError("the images were measured with no width in common")
    return shared[len(shared) // 2]


def rank_correlations(tables: Mapping[str, pandas.DataFrame], width: int) -> dict[str, float]:
    """Column → Spearman's ρ of its Ω at a width with that of real images, over the layers that scores depend on."""
    real = tables[REAL][width]
    seen = real.index[real > 0]
    return {
        column: float(spearmanr(table.loc[seen, width], real[seen]).statistic)
        for column, table in tables.items()
        if column != REAL
    }
