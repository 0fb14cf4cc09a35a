"""Mixed precision beside uniform widths of the same mean, with ZeroQ's images."""

from experiments.analysis.cell import NONE, Cell, Table, float_cell, frame_of, mean_cell, mib, size_cell
from experiments.analysis.labels import SHORT_METRICS, scores_label
from experiments.analysis.notes import measured_notes
from experiments.analysis.selection import plain_runs

ORDER = 100
UNIFORM_OF = {"MP6/A6": "W6/A6", "MP4/A8": "W4/A8"}


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where ZeroQ ran in mixed precision with default settings."""
    rows, runs = [], plain_runs(records)
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
    if not rows:
        return {}
    title = f"Mixed precision (MP) and uniform widths, ZeroQ. {scores_label(chosen.metric)}"
    return {"paper-mixed": Table(title, frame_of(rows), measured_notes(chosen))}
