"""The paper's tables: what was measured here, and beside it what was reported elsewhere.

``reported.csv`` holds figures of the paper and of others, each with the place where it was seen. They stand in columns
of their own, and only runs with default settings are compared with them.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas

from experiments.analysis.cell import NONE, Cell, Table, data_foot, float_cell, frame_of, mean_cell
from experiments.analysis.columns import (
    METRICS,
    SHORT_METRICS,
    SHOWN,
    bits_label,
    bits_order,
    column_and_settings,
    column_order,
    granularity_note,
    scores_label,
)
from experiments.core.record import formatted
from zeroq.errors import ZeroQError

REPORTED = Path(__file__).parents[1] / "reported.csv"
# A reported method's column; it is one of those that are measured where it is the same method.
REPORTED_METHODS = {"zeroq": "ZeroQ", "dfq": "DFQ"}
REPORTED_METHODS |= {"zeroq-mp reproduction": "ZeroQ-MP (others')", "random-data": "Random data (others')"}
BASELINE, FLOAT = "Baseline", "fp32"
# Sources whose networks are the paper's, or their narrowed copies.
SCALES = ("fashion", "imagenet", "coco")
PAPER_SCALES = SCALES[1:]
SOURCES = ["Naive", "Gaussian", "ZeroQ", "ZeroQ, bounded", "Real data*"]
UNIFORM_OF = {"MP6/A6": "W6/A6", "MP4/A8": "W4/A8"}
MEASURED_FOOT = "Measured with each layer's input quantized (placement layer_inputs) and each method's own settings."
FAMILY_FOOT = (
    "No D: needs no data. No FT: no fine-tuning. W-bit, A-bit: bits of weights and activations; MP: their mean."
)


def paper_tables(records: list[dict]) -> dict[str, Table]:
    """Name → table: one for each network, then the paper's comparisons over all of them."""
    runs, reported = plain_runs(records), read_reported()
    found = family_tables(runs, reported)
    for name, table in (
        ("paper-w8a8", eight_bit_table(runs, reported)),
        ("paper-calibration", calibration_table(runs)),
        ("paper-mixed", mixed_table(runs)),
    ):
        if not table.frame.empty:
            found[name] = table
    return found


def measured_feet(runs: pandas.DataFrame) -> tuple[str, str]:
    """How runs were measured, and which methods have which granularity: each has its own default."""
    return MEASURED_FOOT, granularity_note(runs.groupby("column").granularity.agg(set))


def read_reported() -> pandas.DataFrame:
    """The reported figures, with the model, column and bits that a measured one would have, in the same units."""
    reported = pandas.read_csv(REPORTED, dtype={"w_bits": str, "a_bits": str})
    reported["model"] = reported.dataset + "/" + reported.model
    reported["column"] = reported.method.map({**REPORTED_METHODS, FLOAT: BASELINE})
    if reported.column.isna().any():
        raise ZeroQError(f"{REPORTED} has methods without a column: {set(reported[reported.column.isna()].method)}")
    reported["bits"] = [bits_label(row) for row in reported.to_dict("records")]
    is_share = reported.metric == "map"  # reported in percent
    reported.loc[is_share, ["value", "fp32"]] /= 100
    return reported


def plain_runs(records: list[dict], besides: Sequence[str] = ()) -> pandas.DataFrame:
    """The runs that set nothing but network, method, bits and seed (or a column's own), with column and bits.

    Settings of which ``besides`` are names may differ too.
    """
    rows = []
    for record in records:
        column, settings = column_and_settings(record)
        changed = settings.keys() | record["settings"].keys() & set(SHOWN)
        if not changed - {"model.name", *besides}:
            rows.append(record | {"column": column, "bits": bits_label(record)})
    return pandas.DataFrame(rows, columns=[*records[0], "column", "bits"])


def family_tables(runs: pandas.DataFrame, reported: pandas.DataFrame) -> dict[str, Table]:
    """The paper's table of each network that was measured, and of those reported if any is at the paper's scale."""
    known = {(row.dataset, row.model) for row in runs.itertuples()}
    if runs.dataset.isin(PAPER_SCALES).any():
        known |= {(row.dataset, row.model) for row in reported.dropna(subset="value").itertuples()}
    found = {}
    for dataset, model in sorted(known):
        own = runs[(runs.dataset == dataset) & (runs.model == model)]
        elsewhere = reported[(reported.dataset == dataset) & (reported.model == model)]
        notes = [FAMILY_FOOT, *([] if own.empty else measured_feet(own))]
        for place, seen in elsewhere.groupby("seen_in"):
            rows = [BASELINE if row.method == FLOAT else f"{row.column} {row.bits}" for row in seen.itertuples()]
            notes.append(f"Reported ({', '.join(rows)}): {place}.")
        # A library's network of the same name has a table of its own.
        source, _, architecture = model.partition("/")
        name = architecture if source in SCALES else model.replace("/", "-")
        frame = family_frame(own, elsewhere)
        notes += data_foot(frame)
        found[f"paper-{dataset}-{name}"] = Table(f"{name} on {dataset}", frame, tuple(notes), dataset, model)
    return found


def family_frame(own: pandas.DataFrame, elsewhere: pandas.DataFrame) -> pandas.DataFrame:
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


def size_cell(runs: pandas.DataFrame) -> Cell:
    """The largest size of some runs: a plan's own differs a little between seeds."""
    return Cell(mib(runs.size_mib.max()), runs.run)


def mib(size: float) -> str:
    """A size as tables show it, – where it is not known."""
    return NONE if pandas.isna(size) else f"{size:.2f}"


def eight_bit_table(runs: pandas.DataFrame, reported: pandas.DataFrame) -> Table:
    """W8/A8 of all networks, with what ZeroQ loses against FP32 here, and what it was reported to lose."""
    chosen = runs[runs.bits == "W8/A8"]
    eight = reported[(reported.method == "zeroq") & (reported.bits == "W8/A8")]
    rows = []
    for model, group in chosen.groupby("model"):
        metric = group.metric.iloc[0]
        row = {"Network": model, "Metric": SHORT_METRICS[metric], "FP32": float_cell(group)}
        for column in sorted(set(chosen.column), key=column_order):
            row[column] = mean_cell(group[group.column == column])
        ours = group[group.column == "ZeroQ"]
        lost = (ours.fp32_value - ours.value).mean()
        row["ZeroQ loses"] = NONE if ours.empty else Cell(formatted(lost, metric), ours.run)
        rows.append(row | reported_loss(eight, model))
    # The paper's networks without a row of their own: what was reported alone.
    for model in sorted(set(eight.model) - set(chosen.model)) if rows else []:
        metric = eight[eight.model == model].metric.iloc[0]
        row = dict.fromkeys(rows[0], NONE) | {"Network": model, "Metric": SHORT_METRICS[metric]}
        rows.append(row | reported_loss(eight, model))
    title, frame = f"8-bit weights and activations: {scores_label([*chosen.metric, *eight.metric])}", frame_of(rows)
    return Table(title, frame, (*measured_feet(chosen), *data_foot(frame)))


def reported_loss(reported: pandas.DataFrame, model: str) -> dict[str, str]:
    """What ZeroQ was reported to lose against FP32 on a network."""
    same = reported[reported.model == model]
    lost = formatted((same.fp32 - same.value).iloc[0], same.metric.iloc[0]) if len(same) else NONE
    return {"Reported to lose": lost}


def calibration_table(runs: pandas.DataFrame) -> Table:
    """What the images that calibrate a network are worth: none, noise, distilled ones, real ones."""
    chosen = runs[runs.column.isin(SOURCES)]
    groups = dict(list(chosen.groupby(["model", "bits"])))
    rows = []
    for model, bits in sorted(groups, key=lambda key: (key[0], bits_order(key[1]))):
        group = groups[model, bits]
        row = {"Network": model, "Metric": SHORT_METRICS[group.metric.iloc[0]], "Bits": bits, "FP32": float_cell(group)}
        rows.append(row | {column: mean_cell(group[group.column == column]) for column in SOURCES})
    table = frame_of(rows).rename(columns={"ZeroQ": "Distilled", "ZeroQ, bounded": "Distilled, bounded"})
    naive = "Naive has each test batch's own activation range. Distilled: ZeroQ."
    title = f"Calibration: no images, noise, distilled or real ones. {scores_label(chosen.metric)}"
    return Table(title, table, (*measured_feet(chosen), naive, *data_foot(table)))


def mixed_table(runs: pandas.DataFrame) -> Table:
    """Mixed precision beside uniform widths of the same mean, with ZeroQ's images."""
    rows = []
    chosen = runs[runs.column == "ZeroQ"]
    for model, group in chosen.groupby("model"):
        full = Cell(mib(group.fp32_size_mib.iloc[0]), group.run.head(1))
        row = {"Network": model, "Metric": SHORT_METRICS[group.metric.iloc[0]], "FP32": float_cell(group)}
        row["FP32 MiB"] = full
        for mixed, uniform in UNIFORM_OF.items():
            for bits in (uniform, mixed):
                same = group[group.bits == bits]
                row |= {f"{bits} MiB": size_cell(same), bits: mean_cell(same)}
        if any(row[bits] != NONE for bits in UNIFORM_OF):
            rows.append(row)
    title = f"Mixed precision (MP) and uniform widths, ZeroQ. {scores_label(chosen.metric)}"
    return Table(title, frame_of(rows), measured_feet(chosen) if rows else ())
