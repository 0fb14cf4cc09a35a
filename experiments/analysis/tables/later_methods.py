"""Methods that came after the paper, as they were reported, beside those of the paper and what was measured here.

A row is a method at one setting of bits. Runs with default settings stand there where a later method was reported for
the same network and the same bits.
"""

import pandas

from experiments.analysis.cell import NONE, Table, float_cell, frame_of, mean_cell
from experiments.analysis.columns import column_order
from experiments.analysis.labels import bits_order, scores_label
from experiments.analysis.notes import data_notes, measured_notes
from experiments.analysis.reported import BASELINE, LATER, costs, read_reported, reported_range
from experiments.analysis.selection import plain_runs

ORDER = 105
NOTES = (
    "No D: needs no data. No FT: no fine-tuning. Reported FP32: of the network that a source started from.",
    "A range is what the sources say that differ. Sources: the numbers of those below, with the score that each has "
    "where they differ. Nothing of what was reported was measured here, and placements and granularities may differ.",
)


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where a run is of a data set that later methods were reported for."""
    runs, reported = plain_runs(records), read_reported()
    later = reported[reported.column.isin(LATER)]
    if not runs.dataset.isin(later.dataset).any():
        return {}
    settings = {(row.model, row.bits) for row in later.itertuples()}
    own = compared(runs, settings)
    elsewhere = compared(reported[reported.column != BASELINE], settings)
    places = {place: number for number, place in enumerate(elsewhere.seen_in.unique(), start=1)}
    keys = {(row.model, row.bits, row.column) for frame in (own, elsewhere) for row in frame.itertuples()}
    rows = []
    for model, bits, column in sorted(keys, key=lambda key: (key[0], bits_order(key[1]), column_order(key[2]))):
        group, seen = ((f[(f.model == model) & (f.bits == bits) & (f.column == column)]) for f in (own, elsewhere))
        rows.append({"Network": model, "Bits": bits, "Method": column} | method_row(group, seen, places))
    frame = frame_of(rows)
    notes = [*NOTES, *([] if own.empty else measured_notes(own))]
    notes += [f"Source {number}: {place}." for place, number in places.items()]
    title = f"Methods after the paper, as reported. {scores_label([*own.metric, *elsewhere.metric])}"
    return {"later_methods": Table(title, frame, (*notes, *data_notes(frame)))}


def compared(frame: pandas.DataFrame, settings: set[tuple[str, str]]) -> pandas.DataFrame:
    """The rows whose network and bits are among the settings."""
    return frame[[(row.model, row.bits) in settings for row in frame.itertuples()]]


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
        by_score.setdefault(reported_range(pandas.Series([row.value]), metric), []).append(str(places[row.seen_in]))
    if len(by_score) > 1:
        return "; ".join(f"{score}: {', '.join(numbers)}" for score, numbers in by_score.items())
    return ", ".join(*by_score.values()) if by_score else NONE
