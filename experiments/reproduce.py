"""Run randomly chosen records of the bundled networks again, and compare.

    python -m experiments.reproduce [results=FOLDER] [outputs=FOLDER] [count=5] [seed=0]

Without folders, the records are the committed ones; with outputs, those of that folder's runs.

The same kind of machine gives the same numbers; another rounds sums in another order, which moves a score by up to 0.2
points (0.005 mAP). Ends with 1 where one moves further. Each run takes some seconds to minutes: images are distilled
again.
"""

import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.analysis.collection import same_score
from experiments.cli.words import record_folders
from experiments.core.choices import choices
from experiments.core.record import NamedRecord, formatted, read_record
from zeroq.errors import ZeroQError


def overrides(record: NamedRecord) -> list[str]:
    """The words of the command line that made a record; raises ZeroQError where none of ours could have.

    Reading a record has checked its settings.
    """
    _, _, bits, *_ = (*record["run"].split(","), "", "", "")
    named = {"model": record["model"], "method": record["method"], "bits": bits}
    for group, choice in named.items():
        if choice not in choices(group):
            raise ZeroQError(f"{record['run']} cannot be run again: there is no {group}={choice}")
    if own := [key for key in record["settings"] if key.startswith("model.")]:
        raise ZeroQError(f"{record['run']} is of a network of somebody's own ({own[0]}); it cannot be run again here")
    words = {**named, "seed": record["seed"], **record["settings"]}
    return [f"{key}={value}" for key, value in words.items()]


def again(record: NamedRecord, outputs: Path) -> NamedRecord:
    """The record of the same run, made now; raises ZeroQError where it fails."""
    command = [sys.executable, "-m", "experiments.run", f"outputs={outputs}", "tracker=disabled", *overrides(record)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ZeroQError(f"{record['run']} fails: {(done.stdout + done.stderr).strip()}")
    return read_record(outputs / "runs" / record["run"])


def verdict(before: NamedRecord, now: NamedRecord) -> str:
    """``same``, ``close``, or ``DIFFERENT``."""
    if before["value"] == now["value"]:
        return "same"
    return "close" if same_score(before["value"], now["value"], before["metric"]) else "DIFFERENT"


def main() -> None:
    folders, given = record_folders(sys.argv[1:], __doc__, ("count", "seed"))
    try:
        count, seed = int(given.get("count", 5)), int(given.get("seed", 0))
    except ValueError:
        sys.exit("error: count and seed are whole numbers")
    if count < 1:
        sys.exit("error: count is at least 1")
    verdicts = []
    try:
        records = [record for record in folders.collection().records if record["model"].startswith("fashion/")]
        if not records:
            raise ZeroQError("there is no record of a bundled network, model=fashion/…")
        with TemporaryDirectory() as folder:
            for record in random.Random(seed).sample(records, min(count, len(records))):
                now = again(record, Path(folder))
                verdicts.append(verdict(record, now))
                before, after = (formatted(each["value"], record["metric"]) for each in (record, now))
                print(f"{verdicts[-1]:9}  {before} → {after}  {record['run']}", flush=True)
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    if "DIFFERENT" in verdicts:
        sys.exit(1)


if __name__ == "__main__":
    main()
