"""What becomes of the architectures of torchvision, timm and pytorchcv, each in a process of its own.

    python -m experiments.survey [only=timm:resnet18,…] [seconds=600] [results=FOLDER]

Quantized, exported and compared, with random weights and small images; a refusal is kept as its sentence. What is done
already is skipped. Rows lie in results/architectures, and beside them their table.
"""

import subprocess
import sys

from experiments.architectures.listed import architectures
from experiments.architectures.table import rows_of, summary, table
from experiments.cli.words import output_folder, results_arguments
from experiments.core.progress import console
from experiments.core.record import write_json

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
    for number, name in enumerate(names, 1):
        path = folder / f"{name.replace(':', '-')}.json"
        if path.exists():
            continue
        console.print(f"{name} ({number} of {len(names)})")
        command = [sys.executable, "-m", "experiments.architectures.surveyed", name, str(path)]
        try:
            failed = subprocess.run(command, timeout=int(seconds), stderr=subprocess.PIPE, text=True)
            reason = failed.stderr.splitlines()[-1:] if failed.returncode else None
        except subprocess.TimeoutExpired:
            reason = [f"it took more than {seconds} s"]
        if reason is not None:
            fault = {"fault": " ".join(reason) or "it was killed"}
            row = {"architecture": name, "side": listed[name], "layers": 0, "untouched": False}
            write_json(path, row | dict.fromkeys(("zero_shot", "integer", "dfq"), fault))
    rows = rows_of(folder)
    table(rows).write(folder / "table")
    for words, count in summary(rows).items():
        console.print(f"{count:4} {words}")


if __name__ == "__main__":
    main()
