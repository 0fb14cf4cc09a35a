"""The one argument of the programs that read records, and where they write."""

import sys
from pathlib import Path
from tempfile import TemporaryFile


def results_argument(arguments: list[str], usage: str) -> Path:
    """The folder after ``results=``, by default ``results``; ends the program on anything else."""
    if "--help" in arguments or "-h" in arguments:
        print(usage)
        sys.exit(0)
    folder = "results"
    for argument in arguments:
        key, _, folder = argument.partition("=")
        if key != "results" or not folder:
            sys.exit(f"error: unknown argument {argument!r}; the only one is results=FOLDER")
    return Path(folder)


def output_folder(folder: Path) -> Path:
    """The folder, made where it is missing; ends the program where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        sys.exit(f"error: cannot write to {folder} ({error.strerror}); name a copy of the results with results=…")
