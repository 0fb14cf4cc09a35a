"""What the images that calibrate a network are worth: none, noise, distilled ones, real ones."""

from experiments.analysis.cell import Table, float_cell, frame_of, mean_cell
from experiments.analysis.columns import COLUMNS
from experiments.analysis.labels import SHORT_METRICS, bits_order, scores_label
from experiments.analysis.notes import data_notes, measured_notes
from experiments.analysis.selection import plain_runs

ORDER = 90
NOTE = "Naive has each test batch's own activation range. Distilled: ZeroQ."
# Column → its title here.
SOURCES = {column.title: column.calibration for column in COLUMNS if column.calibration}


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where a run with default settings is of one of these methods."""
    runs = plain_runs(records)
    chosen = runs[runs.column.isin(SOURCES)]
    groups = dict(list(chosen.groupby(["model", "bits"])))
    rows = []
    for model, bits in sorted(groups, key=lambda key: (key[0], bits_order(key[1]))):
        group = groups[model, bits]
        row = {"Network": model, "Metric": SHORT_METRICS[group.metric.iloc[0]], "Bits": bits, "FP32": float_cell(group)}
        rows.append(row | {title: mean_cell(group[group.column == column]) for column, title in SOURCES.items()})
    if not rows:
        return {}
    frame = frame_of(rows)
    title = f"Calibration: no images, noise, distilled or real ones. {scores_label(chosen.metric)}"
    return {"paper-calibration": Table(title, frame, (*measured_notes(chosen), NOTE, *data_notes(frame)))}
