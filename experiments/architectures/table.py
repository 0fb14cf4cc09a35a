"""The survey's table, and how many architectures come through each way."""

import json
from pathlib import Path
from typing import Any

from experiments.analysis.cell import NONE, Table, frame_of
from experiments.core.results import numbered_lines
from zeroq.whole import write_whole

SAME = 1e-3
ROWS = "rows.jsonl"
WAYS = ("zero_shot", "integer", "dfq")
NOTES = (
    "Random weights, BatchNorm's statistics of smooth random images, 8 bits. Integer: layers that onnxruntime runs in "
    "integers, of all with weights. File: the largest difference between the exported file and zeroq's integer "
    "arithmetic, as a share of the largest output; a rounding that falls to the other side moves the scores of a "
    "random network far.",
)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """What is stored of each architecture; a line that was cut off is left out."""
    path = folder / ROWS
    lines = [line for _, line in numbered_lines(path)] if path.exists() else []
    return sorted((line for line in lines if isinstance(line, dict)), key=lambda row: row["architecture"])


def add(folder: Path, row: dict[str, Any]) -> None:
    """Store what became of one architecture more."""
    lines = [json.dumps(each, separators=(",", ":")) for each in [*rows_of(folder), row]]
    write_whole(folder / ROWS, "\n".join(sorted(lines)) + "\n")


def table(rows: list[dict[str, Any]]) -> Table:
    """A row an architecture."""
    notes = [*NOTES, *(f"Refused, {', '.join(names)}: {reason}." for reason, names in _refusals(rows).items())]
    return Table("What becomes of architectures that people have", frame_of([_row(row) for row in rows]), tuple(notes))


def summary(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many of the architectures come through each way."""
    integer = [row["integer"] for row in rows if "float_layers" in row["integer"]]
    return {
        "architectures": len(rows),
        "untouched": sum(row["untouched"] for row in rows),
        "zero-shot": sum(row["zero_shot"] == "done" for row in rows),
        "exported": len(integer),
        "all layers but one or none in integers": sum(len(each["float_layers"]) <= 1 for each in integer),
        "files equal": sum(each["file_from_integers"] <= SAME for each in integer),
        "dfq": sum(row["dfq"] == "done" for row in rows),
        "faults": sum("fault" in row[way] for row in rows for way in WAYS),
    }


def _refusals(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What was said of which architectures, without the advice."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for reason in {row[way]["error"].partition(";")[0] for way in WAYS if "error" in row[way]}:
            found.setdefault(reason, []).append(row["architecture"])
    return found


def _row(row: dict[str, Any]) -> dict[str, str]:
    integer = row["integer"]
    through = "float_layers" in integer
    return {
        "Architecture": row["architecture"],
        "Side": str(row["side"]),
        "Zero-shot": _word(row["zero_shot"]),
        "Integer": f"{row['layers'] - len(integer['float_layers'])} of {row['layers']}" if through else _word(integer),
        "File": f"{integer['file_from_integers']:.1g}" if through else NONE,
        "DFQ": _word(row["dfq"]),
    }


def _word(found: Any) -> str:
    return "yes" if found == "done" else "fault" if "fault" in found else "refused"
