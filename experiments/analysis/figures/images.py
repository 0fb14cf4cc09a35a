"""Calibration images of each kind side by side."""

import io
from collections.abc import Iterator
from functools import partial

import matplotlib.pyplot as plt

from experiments.analysis.collection import Collection
from experiments.analysis.columns import column_of, column_order
from experiments.analysis.selection import by_recipe
from experiments.analysis.style import WIDTH, NamedFigure

ORDER = 10
DPI = 200  # pictures of few pixels, which take most room of all figures


def figures(collection: Collection) -> Iterator[NamedFigure]:
    """One of each network and recipe of which a run has a picture."""
    for words, records in by_recipe(collection.records).items():
        if pictures := pictures_of(records, collection):
            yield (*words, "images"), partial(draw, pictures, ", ".join(words))


def pictures_of(records: list[dict], collection: Collection) -> dict[str, bytes]:
    """Kind of images → a PNG of them: real ones, distilled ones, noise."""
    pictures = {}
    for title in sorted({record["column"] for record in records}, key=picture_order):
        column, own = column_of(title), [record for record in records if record["column"] == title]
        kept = (collection.picture(record, name) for record in own for name in column.pictures)
        if (first := next(filter(None, kept), None)) is not None:
            pictures[column.images] = first
    return pictures


def picture_order(title: str) -> tuple:
    """Real images before distilled ones, and these before noise."""
    column = column_of(title)
    return not column.needs_data, not column.distills, column_order(title)


def draw(pictures: dict[str, bytes], title: str) -> plt.Figure:
    """Kind of images → a PNG of them."""
    images = {kind: plt.imread(io.BytesIO(content)) for kind, content in pictures.items()}
    width = 2 * WIDTH / len(images)
    height = width * max(image.shape[0] / image.shape[1] for image in images.values())
    figure, columns = plt.subplots(
        1, len(images), figsize=(2 * WIDTH, height + 0.4), dpi=DPI, layout="constrained", squeeze=False
    )
    for axes, (kind, image) in zip(columns[0], images.items(), strict=True):
        axes.imshow(image, cmap="gray", interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(kind)
    figure.suptitle(title, fontsize=9)
    return figure
