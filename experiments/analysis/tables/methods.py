"""All methods beside each other, and the BatchNorm loss of their images."""

import pandas

from experiments.analysis.cell import NONE, Cell, float_cell, frame_of, mean_cell, without_empty_settings
from experiments.analysis.columns import (
    GRANULARITIES,
    bits_label,
    bits_order,
    column_and_settings,
    column_order,
    recipe_label,
    settings_label,
)


def method_table(records: list[dict]) -> pandas.DataFrame:
    """Mean of the metric over seeds, one row a network, placement, granularity, bit and other setting.

    ``records`` are those of one dataset, from a ``Collection``.
    """
    frame = pandas.DataFrame(records)
    frame["bits"] = [bits_label(row) for row in records]
    columns = [column_and_settings(row) for row in records]
    frame["column"] = [column for column, _ in columns]
    frame["others"] = [settings_label(settings) for _, settings in columns]
    frame["weights"] = frame.granularity.map(GRANULARITIES)
    keys = ["model", "placement", "weights", "others", "bits"]
    groups = frame.groupby(keys)
    titles = sorted(set(frame.column), key=column_order)
    rows = [table_row(groups.get_group(key), titles, *key) for key in sorted(groups.groups, key=row_order)]
    return without_empty_settings(frame_of(rows))


def row_order(key: tuple[str, str, str, str, str]) -> tuple:
    """By network, placement, granularity and settings as text, by bits as numbers."""
    return *key[:4], bits_order(key[4])


def table_row(
    group: pandas.DataFrame, titles: list[str], model: str, placement: str, granularity: str, others: str, bits: str
) -> dict[str, str]:
    """One row: FP32, then each method's mean."""
    row = {"Network": model, "Bits": bits, "Placement": placement, "Weights": granularity, "Settings": others}
    # A plan's own size differs a little between methods and seeds; no plan exceeds its budget.
    row["MiB"] = Cell(f"{group.size_mib.max():.2f}", group.run)
    row["FP32 MiB"] = Cell(f"{group.fp32_size_mib.iloc[0]:.2f}", group.run.head(1))
    row["FP32"] = float_cell(group)
    for title in titles:
        row[title] = mean_cell(group[group.column == title])
    return row


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
