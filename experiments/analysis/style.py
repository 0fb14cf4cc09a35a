"""How figures look: for one column of a two-column paper."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

from zeroq.whole import write_whole

# The words that name a figure, and what draws it.
NamedFigure = tuple[tuple[str, ...], Callable[[], plt.Figure]]

WIDTH = 3.4  # inches: one column
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
    "figure.dpi": 300,
    "savefig.dpi": "figure",
}


def heading(words: Sequence[str], what: str) -> str:
    """A title: the network, what is shown, and below the settings, which can be long."""
    network, *rest = words
    return "\n".join(filter(None, [f"{network}: {what}", ", ".join(rest)]))


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure as a PNG of 256 colours, a third of the size, and the same bytes for the same figure."""
    drawn, written = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(written, "PNG", optimize=True)
    write_whole(path, written.getvalue())
