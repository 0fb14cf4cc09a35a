"""The scores of the comparison: a file of JSON lines a tool, ``<tool>.jsonl``, each line one score."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from experiments.core.results import numbered_lines
from zeroq.errors import ZeroQError
from zeroq.whole import write_whole


class Run(NamedTuple):
    """What tells the scores of one network apart."""

    tool: str
    images: str
    bits: str
    seed: int


def scores_of(folder: Path) -> list[dict[str, Any]]:
    """Every score of a folder, file by file; raises ZeroQError for a line that is none."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in numbered_lines(path):
            if not isinstance(line, dict) or not {"network", *Run._fields, "top1"} <= line.keys():
                raise ZeroQError(f"{path}, line {number}, is no score; remove the line, and it is measured again")
            found.append(line)
    return found


def stored(folder: Path, network: str) -> set[Run]:
    """The runs of a network whose scores are there."""
    return {
        Run(**{key: score[key] for key in Run._fields}) for score in scores_of(folder) if score["network"] == network
    }


def add(folder: Path, score: dict[str, Any]) -> None:
    """Store one score more."""
    same_tool = [each for each in scores_of(folder) if each["tool"] == score["tool"]]
    lines = [json.dumps(each, separators=(",", ":")) for each in [*same_tool, score]]
    write_whole(folder / f"{score['tool']}.jsonl", "\n".join(sorted(lines)) + "\n")
