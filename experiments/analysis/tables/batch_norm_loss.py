"""The BatchNorm loss (Eq. 3) of distilled images beside that of noise."""

import pandas

from experiments.analysis.cell import NONE, Cell, Table, frame_of, without_empty_settings
from experiments.analysis.labels import recipe_label

ORDER = 60
NOTES = (
    "Ratio: how many times the noise's loss is the distilled images'.",
    "Seconds are of the machine that made the images, at whatever load it had; they compare nothing.",
)


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where images were distilled."""
    frame = loss_table(records)
    title = "BatchNorm loss (Eq. 3) of calibration images"
    return {} if frame.empty else {"batch_norm_loss": Table(title, frame, NOTES)}


def loss_table(records: list[dict]) -> pandas.DataFrame:
    """BatchNorm loss of distilled and of Gaussian images: one row a network, recipe and seed, for all bit settings."""
    rows = {}
    for record in records:
        if record["distill_loss"] is None:
            continue
        recipe = recipe_label(record["settings"])
        numbers = {
            "Gaussian": f"{record['gaussian_loss']:.2f}",
            "Distilled": f"{record['distill_loss']:.2f}",
            "Ratio": f"{record['gaussian_loss'] / record['distill_loss']:.1f}" if record["distill_loss"] else NONE,
            "Distillation (s)": f"{record['seconds']['distill']:.1f}",
        }
        words = {"Network": record["model"], "Settings": recipe, "Seed": str(record["seed"])}
        rows[tuple(words.values())] = words | {title: Cell(text, [record["run"]]) for title, text in numbers.items()}
    return without_empty_settings(frame_of([rows[key] for key in sorted(rows)]))
