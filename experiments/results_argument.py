"""The arguments of the programs that read records, and where they write."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile


def results_argument(arguments: list[str], usage: str) -> Path:
    """The folder after ``results=``, by default ``results``; ends the program on anything else."""
    return results_arguments(arguments, usage, ())[0]


def results_arguments(arguments: list[str], usage: str, others: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The folder after ``results=``, and what was given for the other words; ends the program on anything else."""
    if "--help" in arguments or "-h" in arguments:
        print(usage)
        sys.exit(0)
    given = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in ("results", *others) or not value:
            known = ", ".join(f"{word}=…" for word in others)
            allowed = f"they are results=FOLDER, {known}" if others else "the only one is results=FOLDER"
            sys.exit(f"error: unknown argument {argument!r}; {allowed}")
        given[key] = value
    return Path(given.pop("results", "results")), given


def output_folder(folder: Path) -> Path:
    """The folder, made where it is missing; ends the program where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        sys.exit(f"error: cannot write to {folder} ({error.strerror}); name a copy of the results with results=…")
