"""Bring finished runs into the committed results, or unpack one of these again.

    python -m experiments.collect [outputs=FOLDER] [results=FOLDER]
    python -m experiments.collect run=NAME to=FOLDER [results=FOLDER]

The first adds every run below ``outputs/runs`` to ``results``, with its tables and its picture where a figure shows it;
a run of the same name is replaced. A run whose record is damaged is refused and named. The second makes FOLDER/NAME of
a kept run: its record, config, tables and picture, as ``experiments.export`` takes them.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.analysis.collection import collection
from experiments.analysis.columns import column_of
from experiments.analysis.selection import by_recipe
from experiments.cli.words import named_words
from experiments.core.collecting import Report, collect, unpack
from zeroq.errors import ZeroQError


def main() -> None:
    given = named_words(sys.argv[1:], __doc__, ("outputs", "results", "run", "to"))
    results, outputs = Path(given.get("results", "results")), Path(given.get("outputs", "outputs"))
    if ("run" in given) != ("to" in given) or ("run" in given and "outputs" in given):
        sys.exit("error: run=NAME and to=FOLDER unpack one kept run; without both, outputs=FOLDER are collected")
    try:
        if "run" in given:
            print(f"Unpacked into {unpack(results, given['run'], Path(given['to']))}")
            return
        report = collect(outputs / "runs", results, shown_pictures)
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write to {error.filename or 'the disk'} ({error.strerror})")
    tell(report, outputs, results)
    if report.refused:
        sys.exit(1)


def shown_pictures(contents: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(run, name) of the pictures that figures show."""
    for records in by_recipe(collection(contents).records).values():
        for record in records:
            yield from ((record["run"], name) for name in column_of(record["column"]).pictures)


def tell(report: Report, outputs: Path, results: Path) -> None:
    """What became of each run that is not the same as before."""
    for word, runs in (("new", report.new), ("replaced", report.replaced)):
        for run in runs:
            print(f"{word}  {run}")
    for run, reason in report.refused.items():
        print(f"refused: {run} ({reason})", file=sys.stderr)
    print(
        f"{outputs / 'runs'} → {results}: {len(report.new)} new, {len(report.replaced)} replaced, "
        f"{len(report.same)} the same, {len(report.refused)} refused"
    )


if __name__ == "__main__":
    main()
