"""W8/A8 of all networks: what ZeroQ loses against FP32 here, and what it was reported to lose."""

import pandas

from experiments.analysis.cell import NONE, Cell, Table, float_cell, frame_of, mean_cell
from experiments.analysis.columns import column_order
from experiments.analysis.labels import SHORT_METRICS, scores_label
from experiments.analysis.notes import data_notes, measured_notes
from experiments.analysis.reported import read_reported, reported_range
from experiments.analysis.selection import plain_runs
from experiments.core.record import formatted

ORDER = 80
BITS = "W8/A8"


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where a run with default settings has 8 bits; networks that were only reported are rows too."""
    runs, reported = plain_runs(records), read_reported()
    chosen = runs[runs.bits == BITS]
    eight = reported[(reported.column == "ZeroQ") & (reported.bits == BITS)].dropna(subset="fp32")
    eight = eight.assign(lost=eight.fp32 - eight.value)
    rows = []
    for model, group in chosen.groupby("model"):
        metric = group.metric.iloc[0]
        row = {"Network": model, "Metric": SHORT_METRICS[metric], "FP32": float_cell(group)}
        for column in sorted(set(chosen.column), key=column_order):
            row[column] = mean_cell(group[group.column == column])
        ours = group[group.column == "ZeroQ"]
        lost = (ours.fp32_value - ours.value).mean()
        row["ZeroQ loses"] = NONE if ours.empty else Cell(formatted(lost, metric), ours.run)
        rows.append(row | reported_loss(eight, model, metric))
    if not rows:
        return {}
    # The paper's networks without a row of their own: what was reported alone.
    for model in sorted(set(eight.model) - set(chosen.model)):
        metric = eight[eight.model == model].metric.iloc[0]
        row = dict.fromkeys(rows[0], NONE) | {"Network": model, "Metric": SHORT_METRICS[metric]}
        rows.append(row | reported_loss(eight, model, metric))
    title, frame = f"8-bit weights and activations: {scores_label([*chosen.metric, *eight.metric])}", frame_of(rows)
    notes = (*measured_notes(chosen), *source_notes(eight), *data_notes(frame))
    return {"paper-w8a8": Table(title, frame, notes)}


def reported_loss(reported: pandas.DataFrame, model: str, metric: str) -> dict[str, str]:
    """What ZeroQ was reported to lose against FP32 on a network: the least and the most."""
    return {"Reported to lose": reported_range(reported[reported.model == model].lost, metric)}


def source_notes(reported: pandas.DataFrame) -> list[str]:
    """What each source reports."""
    notes = []
    for place, seen in reported.groupby("seen_in"):
        losses = [f"{row.model} {formatted(row.lost, row.metric)}" for row in seen.itertuples()]
        notes.append(f"Reported to lose ({', '.join(losses)}): {place}.")
    return notes
