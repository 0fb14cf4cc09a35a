"""What one setting is worth: the score at each of its values, with all else the same."""

import pandas

from experiments.analysis.cell import Table, frame_of, mean_cell, without_empty_settings
from experiments.analysis.labels import bits_order, scores_label
from experiments.analysis.notes import data_notes
from experiments.analysis.selection import UNKNOWN, sweeps

ORDER = 30
NOTES = (
    "null stands for the whole range as percentile, and for the network's own size as distill.size.",
    "A default is the mean over the seeds that its sweep was run with, so it may differ between sweeps.",
)


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where a setting has several values."""
    frame = sweep_table(records)
    if frame.empty:
        return {}
    title = f"One setting changed, all others the same. {scores_label(record['metric'] for record in records)}"
    return {"sweeps": Table(title, frame, (*NOTES, *data_notes(frame)), printed=True)}


def sweep_table(records: list[dict]) -> pandas.DataFrame:
    """One row a value of a setting, one column a setting of bits."""
    groups = sweeps(records)
    widths = sorted({record["bits"] for runs in groups.values() for record in runs}, key=bits_order)
    rows = []
    for key, records_of_sweep in groups.items():
        runs = pandas.DataFrame(records_of_sweep)
        for level, same in runs.groupby("level", sort=False):
            row = {name.capitalize(): word for name, word in key._asdict().items()}
            row["Value"] = f"{level} (default)" if same.default.any() and level != UNKNOWN else level
            rows.append(row | {bits: mean_cell(same[same.bits == bits]) for bits in widths})
    return without_empty_settings(frame_of(rows))
