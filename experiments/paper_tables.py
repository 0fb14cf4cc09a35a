"""The paper's tables: what was measured here, and beside it what was reported elsewhere.

``reported.csv`` holds figures of the paper and of others, each with the place where it was seen. They stand in columns
of their own, and only runs with default settings are compared with them.
"""

from pathlib import Path

import pandas

from experiments.labels import METRICS, bits_label, bits_order, column_and_settings, column_order
from experiments.record import formatted
from experiments.table import NONE, Cell, Table, float_cell, frame_of, mean_cell

REPORTED = Path(__file__).with_name("reported.csv")
# A reported method's column; it is one of those that are measured where it is the same method.
REPORTED_METHODS = {"zeroq": "ZeroQ", "dfq": "DFQ"}
REPORTED_METHODS |= {"zeroq-mp reproduction": "ZeroQ-MP (others')", "random-data": "Random data (others')"}
BASELINE = "Baseline"
SOURCES = ["Naive", "Gaussian", "ZeroQ", "ZeroQ, bounded", "Real data*"]
UNIFORM_OF = {"MP6/A6": "W6/A6", "MP4/A8": "W4/A8"}
DATA_FOOT = "* needs data: calibrated on training images."
MEASURED_FOOT = "Measured with each layer's input quantized (placement layer_inputs) and each method's own settings."


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


def read_reported() -> pandas.DataFrame:
    """The reported figures, with the column and the bits that a measured one would have."""
    reported = pandas.read_csv(REPORTED, dtype={"w_bits": str, "a_bits": str})
    reported["column"] = reported.method.map(REPORTED_METHODS)
    reported["bits"] = [bits_label(row) for row in reported.to_dict("records")]
    return reported


def plain_runs(records: list[dict]) -> pandas.DataFrame:
    """The runs that set nothing but network, method, bits and seed (or a column's own), with column and bits."""
    rows = []
    for record in records:
        column, settings = column_and_settings(record)
        if not settings.keys() - {"model.name"}:
            architecture = record["model"].rpartition("/")[2]
            rows.append(record | {"column": column, "bits": bits_label(record), "architecture": architecture})
    return pandas.DataFrame(rows, columns=[*records[0], "column", "bits", "architecture"])


def family_tables(runs: pandas.DataFrame, reported: pandas.DataFrame) -> dict[str, Table]:
    """The paper's table of one network, measured or reported, for each data set that anything was measured on."""
    known = {(row.dataset, row.architecture) for row in runs.itertuples()}
    known |= {(row.dataset, row.model) for row in reported.itertuples() if row.dataset in set(runs.dataset)}
    found = {}
    for dataset, architecture in sorted(known):
        own = runs[(runs.dataset == dataset) & (runs.architecture == architecture)]
        elsewhere = reported[(reported.dataset == dataset) & (reported.model == architecture)]
        notes = [] if own.empty else [MEASURED_FOOT]
        for place, seen in elsewhere.groupby("seen_in"):
            rows = [BASELINE if row.method == "fp32" else f"{row.column} {row.bits}" for row in seen.itertuples()]
            notes.append(f"Reported ({', '.join(rows)}): {place}.")
        frame = family_frame(own, elsewhere)
        found[f"paper-{dataset}-{architecture}"] = Table(f"{architecture} on {dataset}", frame, tuple(notes))
    return found


def family_frame(own: pandas.DataFrame, elsewhere: pandas.DataFrame) -> pandas.DataFrame:
    """Method, No D, No FT, W-bit, A-bit, Size and score; reported ones and the difference where there are any."""
    metric = (own if len(own) else elsewhere).metric.iloc[0]
    baselines, methods = elsewhere[elsewhere.method == "fp32"], elsewhere[elsewhere.method != "fp32"]
    size = own.fp32_size_mib.iloc[0] if len(own) else baselines.size_mib.iloc[0]
    rows = [{"Method": BASELINE, "No D": NONE, "No FT": NONE, "W-bit": "32", "A-bit": "32", "Size (MiB)": mib(size)}]
    rows[0] |= scores(own.head(1).assign(value=own.fp32_value.head(1)), baselines, metric)
    keys = {(row.bits, row.column) for frame in (own, methods) for row in frame.itertuples()}
    for bits, column in sorted(keys, key=lambda key: (bits_order(key[0]), column_order(key[1]))):
        group = own[(own.bits == bits) & (own.column == column)]
        other = methods[(methods.bits == bits) & (methods.column == column)]
        weight, activation = bits.removeprefix("W").split("/A")
        row = {"Method": column, "No D": "no" if group.needs_data.any() else "yes", "No FT": "yes"}
        row |= {"W-bit": weight, "A-bit": activation}
        row["Size (MiB)"] = mib(group.size_mib.max() if len(group) else other.size_mib.iloc[0])
        rows.append(row | scores(group, other, metric))
    table = frame_of(rows)
    return table if len(elsewhere) else table.drop(columns=["Reported", "Difference"])


def scores(group: pandas.DataFrame, reported: pandas.DataFrame, metric: str) -> dict[str, str]:
    """What was measured, what was reported (both in percent), and by how much the first is above the second."""
    row = {METRICS[metric]: mean_cell(group), "Reported": NONE, "Difference": NONE}
    value = reported.value.iloc[0] if len(reported) else float("nan")
    if not pandas.isna(value):
        row["Reported"] = f"{value:.2f}"
        if len(group):
            row["Difference"] = f"{group.value.mean() * (100 if metric == 'map' else 1) - value:+.2f}"
    return row


def mib(size: float) -> str:
    """A size as tables show it, – where it is not known."""
    return NONE if pandas.isna(size) else f"{size:.2f}"


def eight_bit_table(runs: pandas.DataFrame, reported: pandas.DataFrame) -> Table:
    """W8/A8 of all networks, with what ZeroQ loses against FP32 here, and what it was reported to lose."""
    chosen = runs[runs.bits == "W8/A8"]
    rows = []
    for model, group in chosen.groupby("model"):
        metric = group.metric.iloc[0]
        row = {"Network": model, "Metric": METRICS[metric].partition(" (")[0], "FP32": float_cell(group)}
        for column in sorted(set(chosen.column), key=column_order):
            row[column] = mean_cell(group[group.column == column])
        ours = group[group.column == "ZeroQ"]
        lost = (ours.fp32_value - ours.value).mean()
        row["ZeroQ loses"] = NONE if ours.empty else Cell(formatted(lost, metric), ours.run)
        # A detector's reported name tells its backbone too.
        names = [group.architecture.iloc[0], f"{group.architecture.iloc[0]}_resnet50"]
        same = reported[reported.model.isin(names) & (reported.method == "zeroq") & (reported.bits == "W8/A8")]
        row["reported to lose"] = f"{same.fp32.iloc[0] - same.value.iloc[0]:.2f}" if len(same) else NONE
        rows.append(row)
    notes = (MEASURED_FOOT, DATA_FOOT, "Reported losses are of the full networks on ImageNet and COCO, in points.")
    return Table("8-bit weights and activations", frame_of(rows), notes)


def calibration_table(runs: pandas.DataFrame) -> Table:
    """What the images that calibrate a network are worth: none, noise, distilled ones, real ones."""
    groups = dict(list(runs[runs.column.isin(SOURCES)].groupby(["model", "bits"])))
    rows = []
    for model, bits in sorted(groups, key=lambda key: (key[0], bits_order(key[1]))):
        group = groups[model, bits]
        row = {"Network": model, "Bits": bits, "FP32": float_cell(group)}
        rows.append(row | {column: mean_cell(group[group.column == column]) for column in SOURCES})
    table = frame_of(rows).rename(columns={"ZeroQ": "Distilled", "ZeroQ, bounded": "Distilled, bounded"})
    naive = "Naive has one weight range a tensor and each test batch's own activation range."
    return Table("Calibration: no images, noise, distilled or real ones", table, (MEASURED_FOOT, naive, DATA_FOOT))


def mixed_table(runs: pandas.DataFrame) -> Table:
    """Mixed precision beside uniform widths of the same mean, with ZeroQ's images."""
    rows = []
    for model, group in runs[runs.column == "ZeroQ"].groupby("model"):
        row = {"Network": model, "FP32": float_cell(group), "FP32 MiB": mib(group.fp32_size_mib.iloc[0])}
        for mixed, uniform in UNIFORM_OF.items():
            for bits in (uniform, mixed):
                same = group[group.bits == bits]
                row |= {f"{bits} MiB": mib(same.size_mib.max()), bits: mean_cell(same)}
        if any(row[bits] != NONE for bits in UNIFORM_OF):
            rows.append(row)
    return Table("Mixed precision (MP) and uniform widths, ZeroQ", frame_of(rows), (MEASURED_FOOT,))
