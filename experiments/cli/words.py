"""The arguments of the programs that read records, and where they write."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from experiments.analysis.collection import Collection


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


def remove_others(folder: Path, made: Iterable[str], suffixes: Sequence[str]) -> None:
    """Remove what an earlier call made in a folder, and no record backs any more; ``made`` are names without suffix."""
    for path in sorted(path for path in folder.iterdir() if path.suffix in suffixes and path.stem not in set(made)):
        path.unlink()
        print(f"Removed {path}, which no record stands behind")


def tell_omissions(collection: Collection) -> None:
    """Name the records that were left out."""
    for omission in collection.omissions:
        print(f"{str(omission)[0].upper()}{str(omission)[1:]}", file=sys.stderr)


def output_folder(folder: Path) -> Path:
    """The folder, made where it is missing; ends the program where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        sys.exit(f"error: cannot write to {folder} ({error.strerror}); name a copy of the results with results=…")
