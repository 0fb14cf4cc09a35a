"""What becomes of the architectures of torchvision, timm and pytorchcv, each in a process of its own.

    python -m experiments.survey [only=timm:resnet18,…] [seconds=600] [results=FOLDER]

Quantized, exported and compared, with random weights and small images; a refusal is kept as its sentence. What is done
already is skipped. Rows lie in results/architectures, one JSON line each, and beside them their table.
"""

import json
import subprocess
import sys
from typing import Any

from experiments.architectures.listed import architectures
from experiments.architectures.table import WAYS, add, rows_of, summary, table
from experiments.cli.words import output_folder, results_arguments
from experiments.core.progress import console

WORDS = ("only", "seconds")


def main() -> None:
    results, given = results_arguments(sys.argv[1:], __doc__, WORDS)
    listed = architectures()
    names = given["only"].split(",") if "only" in given else list(listed)
    if unknown := [name for name in names if name not in listed]:
        sys.exit(f"error: there is no architecture {unknown[0]!r} in the survey; they are {', '.join(listed)}")
    if not (seconds := given.get("seconds", "600")).isdecimal():
        sys.exit(f"error: seconds is a whole number, what one architecture may take, not {seconds!r}")
    folder = output_folder(results / "architectures")
    done = {row["architecture"] for row in rows_of(folder)}
    for number, name in enumerate(names, 1):
        if name in done:
            continue
        console.print(f"{name} ({number} of {len(names)})")
        add(folder, _row(name, listed[name], int(seconds)))
    rows = rows_of(folder)
    table(rows).write(folder / "table")
    for words, count in summary(rows).items():
        console.print(f"{count:4} {words}")


def _row(name: str, side: int, seconds: int) -> dict[str, Any]:
    """What a process of its own says of an architecture, or why it said nothing."""
    command = [sys.executable, "-m", "experiments.architectures.surveyed", name]
    try:
        ended = subprocess.run(command, timeout=seconds, capture_output=True, text=True)
        if ended.returncode == 0:
            return json.loads(ended.stdout.splitlines()[-1])
        reason = " ".join(ended.stderr.splitlines()[-1:]) or "it was killed"
    except subprocess.TimeoutExpired:
        reason = f"it took more than {seconds} s"
    row = {"architecture": name, "side": side, "layers": 0, "untouched": False}
    return row | {way: {"fault": reason} for way in WAYS}


if __name__ == "__main__":
    main()
