"""The arguments of the programs that read records, and where they write."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from experiments.analysis.collection import Collection, from_folders
from zeroq.whole import write_whole

FOLDER_WORDS = ("results", "outputs", "to")
LISTED = ".made"  # in a folder: the names of the files that a program made there


@dataclass(frozen=True)
class Folders:
    """Where a program reads records, and writes what it makes of them; without any words, the committed results."""

    results: Path | None
    outputs: Path | None

    @property
    def target(self) -> Path:
        """The user's own folder where one is named: its runs are not the committed ones."""
        return self.outputs or self.results

    def collection(self) -> Collection:
        """Their records; raises ZeroQError where there is none."""
        return from_folders(results=self.results, outputs=self.outputs)


def record_folders(arguments: list[str], usage: str, others: Sequence[str] = ()) -> tuple[Folders, dict[str, str]]:
    """The folders after ``results=`` and ``outputs=``, and what was given for other words; exits on anything else."""
    given = named_words(arguments, usage, ("results", "outputs", *others))
    results, outputs = (Path(given.pop(key)) if key in given else None for key in ("results", "outputs"))
    return Folders(Path("results") if outputs is None and results is None else results, outputs), given


def results_argument(arguments: list[str], usage: str) -> Path:
    """The folder after ``results=``, by default ``results``; ends the program on anything else."""
    return results_arguments(arguments, usage, ())[0]


def results_arguments(arguments: list[str], usage: str, others: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The folder after ``results=``, and what was given for the other words; ends the program on anything else."""
    given = named_words(arguments, usage, ("results", *others))
    return Path(given.pop("results", "results")), given


def named_words(arguments: list[str], usage: str, words: Sequence[str]) -> dict[str, str]:
    """What was given for words of the form ``word=value``; prints the usage when asked, exits on anything else."""
    if "--help" in arguments or "-h" in arguments:
        print(usage)
        sys.exit(0)
    given = dict(argument.partition("=")[::2] for argument in arguments)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in words or not value:
            known = ", ".join(f"{word}=FOLDER" if word in FOLDER_WORDS else f"{word}=…" for word in words)
            allowed = f"they are {known}" if len(words) > 1 else f"the only one is {known}"
            sys.exit(f"error: unknown argument {argument!r}; {allowed}")
    return given


def remove_others(folder: Path, made: Iterable[str], suffixes: Sequence[str]) -> None:
    """Remove what an earlier call made in a folder, and no record backs any more; ``made`` are names without suffix.

    What was made is listed in the folder; files that are not, such as somebody's notes, stay.
    """
    listed, now = folder / LISTED, {f"{name}{suffix}" for name in made for suffix in suffixes}
    before = set(listed.read_text().splitlines()) if listed.exists() else set()
    others = [folder / name for name in before - now if Path(name).name == name and (folder / name).is_file()]
    try:
        for path in others:
            path.unlink()
        write_whole(listed, "\n".join(sorted(now)) + "\n")
    except OSError as error:
        sys.exit(
            f"error: cannot write {listed} ({error.strerror}); what was made is whole, what was there before stays"
        )
    if others:
        print(f"{len(others)} files were removed from {folder}, which no record stands behind")


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
        sys.exit(f"error: cannot write to {folder} ({error.strerror}); name another folder")
