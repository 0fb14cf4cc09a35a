"""All methods beside each other: a table for each data set.

Runs that differ in anything but method and seed never share a row.
"""

import pandas

from experiments.analysis.cell import (
    Cell,
    Table,
    float_cell,
    frame_of,
    mean_cell,
    without_empty_settings,
)
from experiments.analysis.columns import column_and_settings, column_order
from experiments.analysis.labels import GRANULARITIES, METRICS, bits_label, bits_order, settings_label
from experiments.analysis.notes import data_notes
from experiments.analysis.selection import compared, is_ablation

ORDER = 10
UNIFORM_NOTE = "Naive and DFQ measure no sensitivities, so they have no MP rows."


def tables(records: list[dict]) -> dict[str, Table]:
    """A table for each metric and data set."""
    chosen = [record for record in compared(records) if not is_ablation(record)]
    kinds = {(record["metric"], record["dataset"]) for record in chosen}
    method_tables = {}
    for metric, dataset in sorted(kinds, key=lambda kind: (list(METRICS).index(kind[0]), kind[1])):
        frame = method_table([r for r in chosen if (r["metric"], r["dataset"]) == (metric, dataset)])
        notes = (*data_notes(frame), *((UNIFORM_NOTE,) if frame.Bits.str.startswith("MP").any() else ()))
        title = f"{METRICS[metric]}, {dataset}"
        method_tables[f"{metric}-{dataset}"] = Table(title, frame, notes, dataset, printed=True)
    return method_tables


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
