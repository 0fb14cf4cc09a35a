"""How figures look: for one column of a two-column paper."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

from zeroq.whole import write_whole

# The words that name a figure, and what draws it.
NamedFigure = tuple[tuple[str, ...], Callable[[], plt.Figure]]

WIDTH = 3.4  # inches: one column
PANELS, PANEL_DPI = 3, 120  # small panels in a row over both columns
BITS_COLORS = {2: "#d1495b", 3: "#e07a3f", 4: "#edae49", 5: "#9bb46c", 6: "#66a182", 7: "#2e8f9e", 8: "#00798c"}
# Of lines that are no method.
LINE_COLORS = ("#d1495b", "#00798c", "#9bb46c", "#edae49", "#999999", "#66a182", "#e07a3f", "#7d5ba6", "#222222")
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.bbox": "tight",
    "figure.dpi": 200,
    "savefig.dpi": "figure",
}


def small_multiples(count: int, xlabel: str, ylabel: str) -> tuple[plt.Figure, Sequence[plt.Axes]]:
    """So many small panels with logarithmic y, for both columns of a page, with the labels at its edges."""
    columns = min(count, PANELS)
    rows = -(-count // columns)
    size = (2 * WIDTH * columns / PANELS, 0.4 + 1.55 * rows)
    figure, grid = plt.subplots(rows, columns, figsize=size, dpi=PANEL_DPI, squeeze=False, layout="constrained")
    panels = grid.ravel()
    for axes in panels[count:]:
        axes.remove()
    for axes in panels[:count]:
        axes.tick_params(labelsize=6.5)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=5))
        axes.yaxis.set_minor_locator(NullLocator())
    figure.supxlabel(xlabel, fontsize=8)
    figure.supylabel(ylabel, fontsize=8)
    return figure, panels[:count]


def heading(words: Sequence[str], what: str) -> str:
    """A title: the network, what is shown, and below the settings, which can be long."""
    network, *rest = words
    return "\n".join(filter(None, [f"{network}: {what}", ", ".join(rest)]))


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure as a PNG of few colours, a quarter of the size, and the same bytes for the same figure."""
    # Of lines, few colours are enough: their own, which this method keeps as they are, and their edges.
    has_pictures = any(axes.images for axes in figure.axes)
    colors, method = (256, Image.Quantize.MEDIANCUT) if has_pictures else (32, Image.Quantize.MAXCOVERAGE)
    drawn, written = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(colors, method, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    write_whole(path, written.getvalue())
