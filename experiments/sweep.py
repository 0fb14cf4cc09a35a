"""What became of each run of a sweep, whichever process did it."""

import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

# Where a launcher gives up, processes on other machines may go on.
DIED = "the process that did it died, or goes on without the sweep"


@dataclass(frozen=True)
class Outcome:
    """One run: ``done``, ``skipped`` because its record exists, ``left`` to do, or ``failed`` with its cause."""

    name: str
    state: str
    cause: str = ""


class SweepLog:
    """The outcomes of a sweep's runs, one file each in a folder that all its processes see."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, job: int, outcome: Outcome) -> None:
        """Say what became of a job; said before it starts, it stands for a process that dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{job}.partial"
        partial.write_text(json.dumps(asdict(outcome)))
        partial.rename(self.folder / f"{job}.json")

    def read(self) -> list[Outcome]:
        """The outcomes in the order of the jobs."""
        paths = sorted(self.folder.glob("*.json"), key=lambda path: int(path.stem))
        return [Outcome(**json.loads(path.read_text())) for path in paths]

    def remove(self) -> None:
        """Forget them."""
        shutil.rmtree(self.folder, ignore_errors=True)


def summary(outcomes: list[Outcome]) -> str:
    """How many runs ended how, and a line for each that failed."""
    counts = Counter(outcome.state for outcome in outcomes)
    runs = "run" if len(outcomes) == 1 else "runs"
    lines = [f"{len(outcomes)} {runs}: " + ", ".join(f"{count} {state}" for state, count in counts.items())]
    lines += [f"  failed {outcome.name}: {outcome.cause}" for outcome in outcomes if outcome.state == "failed"]
    return "\n".join(lines)
