"""The paper's tables, one for each network: what was measured here, and beside it what was reported elsewhere.

What was reported stands in columns of its own, and only runs with default settings are compared with it.
"""

import pandas

from experiments.analysis.cell import NONE, Cell, Table, frame_of, mean_cell, mib, size_cell
from experiments.analysis.columns import column_order
from experiments.analysis.labels import METRICS, bits_order
from experiments.analysis.notes import data_notes, measured_notes
from experiments.analysis.reported import BASELINE, FLOAT, read_reported
from experiments.analysis.selection import plain_runs
from experiments.core.record import formatted

ORDER = 70
# Sources whose networks are the paper's, or their narrowed copies.
SCALES = ("fashion", "imagenet", "coco")
PAPER_SCALES = SCALES[1:]
NOTE = "No D: needs no data. No FT: no fine-tuning. W-bit, A-bit: bits of weights and activations; MP: their mean."


def tables(records: list[dict]) -> dict[str, Table]:
    """The paper's table of each network that was measured, and of those reported if any is at the paper's scale."""
    runs, reported = plain_runs(records), read_reported()
    known = {(row.dataset, row.model) for row in runs.itertuples()}
    if runs.dataset.isin(PAPER_SCALES).any():
        known |= {(row.dataset, row.model) for row in reported.dropna(subset="value").itertuples()}
    network_tables = {}
    for dataset, model in sorted(known):
        own = runs[(runs.dataset == dataset) & (runs.model == model)]
        elsewhere = reported[(reported.dataset == dataset) & (reported.model == model)]
        notes = [NOTE, *([] if own.empty else measured_notes(own))]
        for place, seen in elsewhere.groupby("seen_in"):
            rows = [BASELINE if row.method == FLOAT else f"{row.column} {row.bits}" for row in seen.itertuples()]
            notes.append(f"Reported ({', '.join(rows)}): {place}.")
        # A library's network of the same name has a table of its own.
        source, _, architecture = model.partition("/")
        name = architecture if source in SCALES else model.replace("/", "-")
        frame = network_frame(own, elsewhere)
        notes += data_notes(frame)
        network_tables[f"paper-{dataset}-{name}"] = Table(f"{name} on {dataset}", frame, tuple(notes), dataset, model)
    return network_tables


def network_frame(own: pandas.DataFrame, elsewhere: pandas.DataFrame) -> pandas.DataFrame:
    """Method, No D, No FT, W-bit, A-bit, Size and score; reported ones and the difference where there are any."""
    metric = (own if len(own) else elsewhere).metric.iloc[0]
    baselines, methods = elsewhere[elsewhere.method == FLOAT], elsewhere[elsewhere.method != FLOAT]
    size = own.fp32_size_mib.iloc[0] if len(own) else baselines.size_mib.iloc[0]
    rows = [{"Method": BASELINE, "No D": NONE, "No FT": NONE, "W-bit": "32", "A-bit": "32", "Size (MiB)": mib(size)}]
    rows[0] |= scores(own.head(1).assign(value=own.fp32_value.head(1)), baselines, metric)
    keys = {(row.bits, row.column) for frame in (own, methods) for row in frame.itertuples()}
    for bits, column in sorted(keys, key=lambda key: (bits_order(key[0]), column_order(key[1]))):
        group = own[(own.bits == bits) & (own.column == column)]
        other = methods[(methods.bits == bits) & (methods.column == column)]
        weight, activation = bits.removeprefix("W").split("/A")
        # No method here trains the network further.
        no_data, no_tuning = ("no" if group.needs_data.any() else "yes", "yes") if len(group) else no_costs(other)
        row = {"Method": column, "No D": no_data, "No FT": no_tuning}
        row |= {"W-bit": weight, "A-bit": activation}
        row["Size (MiB)"] = size_cell(group) if len(group) else mib(other.size_mib.iloc[0])
        rows.append(row | scores(group, other, metric))
    table = frame_of(rows)
    return table if len(elsewhere) else table.drop(columns=["Reported", "Difference"])


def no_costs(reported: pandas.DataFrame) -> tuple[str, str]:
    """Whether what was reported needs no data, and no fine-tuning."""
    first = reported.iloc[0]
    return first.data_free, {"yes": "no", "no": "yes"}[first.finetuned]


def scores(group: pandas.DataFrame, reported: pandas.DataFrame, metric: str) -> dict[str, str]:
    """What was measured, what was reported, and by how much the first is above the second."""
    row = {METRICS[metric]: mean_cell(group), "Reported": NONE, "Difference": NONE}
    value = reported.value.iloc[0] if len(reported) else float("nan")
    if not pandas.isna(value):
        row["Reported"] = formatted(value, metric)
        if len(group):
            difference = group.value.mean() - value
            row["Difference"] = Cell(f"{'+' if difference >= 0 else ''}{formatted(difference, metric)}", group.run)
    return row
