"""The one argument of the programs that read records."""

import sys
from pathlib import Path


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
