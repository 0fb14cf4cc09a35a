"""The paper's tables, one for each network: what was measured here, and beside it what was reported elsewhere.

What was reported stands in columns of its own, and only runs with default settings are compared with it. Where sources
differ, the lowest and the highest score stand there, and below which source has which.
"""

import pandas

from experiments.analysis.cell import NONE, Cell, Table, frame_of, mean_cell, mib, size_cell
from experiments.analysis.columns import column_order
from experiments.analysis.labels import METRICS, bits_order
from experiments.analysis.notes import data_notes, measured_notes
from experiments.analysis.reported import (
    BASELINE,
    LATER,
    costs,
    read_reported,
    read_seconds,
    reported_range,
    score_text,
)
from experiments.analysis.selection import plain_runs
from experiments.core.record import formatted

ORDER = 70
# Sources whose networks are the paper's, or their narrowed copies.
SCALES = ("fashion", "imagenet", "coco")
PAPER_SCALES = SCALES[1:]
NOTE = "No D: needs no data. No FT: no fine-tuning. W-bit, A-bit: bits of weights and activations; MP: their mean."


def tables(records: list[dict]) -> dict[str, Table]:
    """The paper's table of each network that was measured, and of those reported if any is at the paper's scale."""
    runs, reported, seconds = plain_runs(records), read_reported(), read_seconds()
    reported = reported[~reported.column.isin(LATER)]
    known = {(row.dataset, row.model) for row in runs.itertuples()}
    if runs.dataset.isin(PAPER_SCALES).any():
        known |= {(row.dataset, row.model) for row in reported.dropna(subset="value").itertuples()}
    network_tables = {}
    for dataset, model in sorted(known):
        own = runs[(runs.dataset == dataset) & (runs.model == model)]
        elsewhere = reported[(reported.dataset == dataset) & (reported.model == model)]
        notes = [NOTE, *([] if own.empty else measured_notes(own)), *source_notes(elsewhere)]
        notes += time_notes(seconds[(seconds.dataset == dataset) & (seconds.model == model)])
        # A library's network of the same name has a table of its own.
        source, _, architecture = model.partition("/")
        name = architecture if source in SCALES else model.replace("/", "-")
        frame = network_frame(own, elsewhere)
        notes += data_notes(frame)
        network_tables[f"paper-{dataset}-{name}"] = Table(f"{name} on {dataset}", frame, tuple(notes), dataset, model)
    return network_tables


def source_notes(elsewhere: pandas.DataFrame) -> list[str]:
    """Where each row was seen, with the score where another source has another one."""
    texts = [score_text(row.value, row.metric) for row in elsewhere.itertuples()]
    shown = elsewhere.assign(text=texts)
    shown["differs"] = shown.groupby(["column", "bits"]).text.transform("nunique") > 1
    notes = []
    for place, seen in shown.groupby("seen_in"):
        rows = []
        for row in seen.itertuples():
            name = BASELINE if row.column == BASELINE else f"{row.column.removesuffix('*')} {row.bits}"
            rows.append(f"{name} {row.text}" if row.differs else name)
        notes.append(f"Reported ({', '.join(rows)}): {place}.")
    return notes


def time_notes(seconds: pandas.DataFrame) -> list[str]:
    """How long quantization was reported to take."""
    return [
        f"Reported to take {row.value:.0f} s ({f'{row.column} {row.bits}'.strip()}): {row.seen_in}."
        for row in seconds.itertuples()
    ]


def network_frame(own: pandas.DataFrame, elsewhere: pandas.DataFrame) -> pandas.DataFrame:
    """Method, No D, No FT, W-bit, A-bit, Size and score; reported ones and the difference where there are any."""
    metric = (own if len(own) else elsewhere).metric.iloc[0]
    baselines, methods = elsewhere[elsewhere.column == BASELINE], elsewhere[elsewhere.column != BASELINE]
    size = own.fp32_size_mib.iloc[0] if len(own) else baselines.size_mib.max()
    rows = [{"Method": BASELINE, "No D": NONE, "No FT": NONE, "W-bit": "32", "A-bit": "32", "Size (MiB)": mib(size)}]
    floats = baselines if len(baselines) else methods.assign(value=methods.fp32)
    rows[0] |= scores(own.head(1).assign(value=own.fp32_value.head(1)), floats, metric)
    keys = {(row.bits, row.column) for frame in (own, methods) for row in frame.itertuples()}
    for bits, column in sorted(keys, key=lambda key: (bits_order(key[0]), column_order(key[1]))):
        group = own[(own.bits == bits) & (own.column == column)]
        other = methods[(methods.bits == bits) & (methods.column == column)]
        weight, activation = bits.removeprefix("W").split("/A")
        no_data, no_tuning = costs(group, other)
        row = {"Method": column, "No D": no_data, "No FT": no_tuning}
        row |= {"W-bit": weight, "A-bit": activation}
        row["Size (MiB)"] = size_cell(group) if len(group) else mib(other.size_mib.max())
        rows.append(row | scores(group, other, metric))
    table = frame_of(rows)
    return table if len(elsewhere) else table.drop(columns=["Reported", "Difference"])


def scores(group: pandas.DataFrame, reported: pandas.DataFrame, metric: str) -> dict[str, str]:
    """What was measured, what was reported, and by how much the first is above the second."""
    row = {METRICS[metric]: mean_cell(group), "Reported": reported_range(reported.value, metric), "Difference": NONE}
    if len(group) and row["Reported"] != NONE:
        mean = group.value.mean()
        differences = [mean - end for end in (reported.value.max(), reported.value.min())]
        texts = [f"{'+' if difference >= 0 else ''}{formatted(difference, metric)}" for difference in differences]
        row["Difference"] = Cell(" to ".join(dict.fromkeys(texts)), group.run)
    return row
