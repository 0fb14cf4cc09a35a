"""How far each kind of calibration images is from real ones, layer by layer: rows, table and figure.

``rows.jsonl`` has a line a network: its name as ``network``, the names of its BatchNorm ``layers``, and in
``distances``, by the kind's column, the distance from real images in each layer.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numpy

from experiments.analysis.cell import Table, frame_of
from experiments.analysis.columns import column_of
from experiments.analysis.style import STYLE, save, small_multiples
from experiments.core.results import numbered_lines
from zeroq.errors import ZeroQError
from zeroq.whole import write_whole

ROWS, FIGURE = "rows.jsonl", "by_layer.png"
KINDS = ("Gaussian", "ZeroQ, fast", "Real data*")
NOTES = (
    "Median over the BatchNorm layers, and the largest. A channel's inputs, over images and places, count as a normal "
    "distribution; two are √((μ − μ′)² + (σ − σ′)²) apart, in units of the deviation that the layer recorded, and a "
    "layer's distance is the root of its channels' mean square.",
    "Of 32 images of each kind (seed 0) from 512 other training images. Real: 32 training images, which are that far "
    "from others because they are few.",
)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The lines in the order of networks; raises ZeroQError for one that is damaged."""
    path = folder / ROWS
    rows = [row for _, row in numbered_lines(path)] if path.exists() else []
    if damaged := [row for row in rows if not isinstance(row, dict)]:
        raise ZeroQError(f"{path} is damaged ({damaged[0]}); restore it, or remove it and measure again")
    return sorted(rows, key=lambda row: row["network"])


def add(folder: Path, row: dict[str, Any]) -> None:
    """Write a network's line in place of what it had, and with it the table and the figure."""
    rows = [each for each in read_rows(folder) if each["network"] != row["network"]] + [row]
    lines = sorted(json.dumps(each, separators=(",", ":")) for each in rows)
    write_whole(folder / ROWS, "\n".join(lines) + "\n")
    table(read_rows(folder)).write(folder / "table")
    with plt.rc_context(STYLE):
        save(draw(read_rows(folder)), folder / FIGURE)


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """A row a network, a column a kind of images."""
    cells = [
        {"Network": row["network"], "Layers": str(len(row["layers"]))}
        | {column_of(kind).images.capitalize(): summary(row["distances"][kind]) for kind in KINDS}
        for row in rows
    ]
    return Table("Distance of calibration images from real ones, in deviations", frame_of(cells), NOTES)


def summary(distances: Sequence[float]) -> str:
    """The median, and the largest."""
    return f"{median(distances):.2f}, {max(distances):.2f}"


def draw(rows: Sequence[dict[str, Any]]) -> plt.Figure:
    """A panel a network, a line a kind."""
    figure, panels = small_multiples(len(rows), "BatchNorm layer", "distance from real images (deviations)")
    for axes, row in zip(panels, rows, strict=True):
        layers = numpy.arange(1, len(row["layers"]) + 1)
        for kind in KINDS:
            column = column_of(kind)
            axes.plot(layers, row["distances"][kind], linewidth=0.8, color=column.color, label=column.images)
        axes.set_title(row["network"], fontsize=7)
        axes.set_xlim(1, len(layers))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(KINDS))
    return figure
