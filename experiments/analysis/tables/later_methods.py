"""Methods that came after the paper, as they were reported, beside those of the paper and what was measured here.

A row is a method at one setting of bits. Runs with default settings stand there where a later method was reported for
the same network and the same bits.
"""

import pandas

from experiments.analysis.cell import NONE, Table, float_cell, frame_of, mean_cell
from experiments.analysis.columns import column_order
from experiments.analysis.labels import bits_order, scores_label
from experiments.analysis.notes import data_notes, measured_notes
from experiments.analysis.reported import BASELINE, LATER, costs, read_reported, reported_range, score_text
from experiments.analysis.selection import plain_runs

ORDER = 105
SETTING = ["model", "bits"]
KEY = [*SETTING, "column"]
NOTES = (
    "No D: needs no data. No FT: no fine-tuning. Reported FP32: of the network that a source started from.",
    "Ranges: the lowest and the highest score of sources that differ. Sources: their numbers below, behind each score "
    "where they differ. A source that does not state the bits of activations is taken to mean the weights'.",
    "Reported scores were not measured here. Placements, granularities and the bits of outer layers may differ.",
)


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where a run is of a data set that later methods were reported for."""
    runs, reported = plain_runs(records), read_reported()
    later = reported[reported.column.isin(LATER)]
    if not runs.dataset.isin(later.dataset).any():
        return {}
    settings = later[SETTING].drop_duplicates()
    own = runs.merge(settings)
    elsewhere = reported[reported.column != BASELINE].merge(settings)
    measured, seen = (dict(list(frame.groupby(KEY))) for frame in (own, elsewhere))
    places = {place: number for number, place in enumerate(elsewhere.seen_in.unique(), start=1)}
    rows = []
    for key in sorted(measured.keys() | seen.keys(), key=row_order):
        groups = measured.get(key, own.head(0)), seen.get(key, elsewhere.head(0))
        rows.append(dict(zip(("Network", "Bits", "Method"), key, strict=True)) | method_row(*groups, places))
    frame = frame_of(rows)
    notes = [*NOTES, *([] if own.empty else measured_notes(own))]
    notes += [f"Source {number}: {place}." for place, number in places.items()]
    title = f"Methods after the paper, as reported. {scores_label([*own.metric, *elsewhere.metric])}"
    return {"later_methods": Table(title, frame, (*notes, *data_notes(frame)))}


def row_order(key: tuple[str, str, str]) -> tuple:
    """By network, then wide before narrow, then as columns are ordered."""
    model, bits, column = key
    return model, bits_order(bits), column_order(column)


def method_row(own: pandas.DataFrame, seen: pandas.DataFrame, places: dict[str, int]) -> dict[str, str]:
    """What was measured of a method at one setting of bits, and what was reported of it."""
    metric = (own if len(own) else seen).metric.iloc[0]
    no_data, no_tuning = costs(own, seen)
    return {
        "No D": no_data,
        "No FT": no_tuning,
        "FP32": float_cell(own) if len(own) else NONE,
        "Measured": mean_cell(own),
        "Reported FP32": reported_range(seen.fp32, metric),
        "Reported": reported_range(seen.value, metric),
        "Sources": sources(seen, metric, places),
    }


def sources(seen: pandas.DataFrame, metric: str, places: dict[str, int]) -> str:
    """The numbers of the sources, behind the score that they have where they differ."""
    by_score: dict[str, list[str]] = {}
    for row in seen.sort_values("value", kind="stable").itertuples():
        by_score.setdefault(score_text(row.value, metric), []).append(str(places[row.seen_in]))
    if len(by_score) > 1:
        return "; ".join(f"{score}: {', '.join(numbers)}" for score, numbers in by_score.items())
    return ", ".join(*by_score.values()) if by_score else NONE
