"""What became of each run, whichever process did it."""

import errno
import json
import traceback
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import DictConfig

from experiments.core.progress import console
from experiments.core.record import formatted, write_json
from zeroq.errors import ZeroQError

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
# Where a launcher gives up, processes on other machines may go on.
DIED = "the process that did it died, or goes on without the sweep"


@dataclass(frozen=True)
class Outcome:
    """One run: ``done``, ``skipped`` as its record exists, ``left``, ``interrupted``, or ``failed`` with its cause."""

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
        write_json(self.folder / f"{job}.json", asdict(outcome))

    def read(self) -> list[Outcome]:
        """The outcomes in the order of the jobs."""
        return [outcome for _, outcome in self._jobs()]

    def interrupt(self) -> None:
        """What was begun and has not ended was interrupted, by whoever started the sweep."""
        for job, outcome in self._jobs():
            if outcome.cause == DIED:
                self.write(job, Outcome(outcome.name, "interrupted"))

    def _jobs(self) -> list[tuple[int, Outcome]]:
        paths = sorted(self.folder.glob("*.json"), key=lambda path: int(path.stem))
        return [(int(path.stem), Outcome(**json.loads(path.read_text()))) for path in paths]


def outcome_of(config: DictConfig, name: str, others: dict[str, str], idle: list[str], *, sweeping: bool) -> Outcome:
    """Do one run and say how it ended; a mistake is an outcome too, so that a sweep goes on.

    ``idle`` are settings that do nothing: over several methods, a setting may be of some.
    """
    try:
        # PyTorch takes seconds to import: --help, completion and mistyped settings do not wait for it.
        from experiments.core.config import check_settings_matter, typed
        from experiments.core.once import Skipped, execute

        run = typed(config)
        if not sweeping:
            check_settings_matter(run, [*others, *idle])
        content = execute(run, name, others)
    except (ZeroQError, OSError) as error:
        return failed(name, error)
    except Exception as error:
        if not sweeping:
            raise
        traceback.print_exc()
        return Outcome(name, "failed", f"{type(error).__name__}: {error}".splitlines()[0])
    if isinstance(content, Skipped):
        made = f" ({content.made})" if content.made else ""
        say(f"{name}: done before{made}, skipped (force=true runs it again)")
        return Outcome(name, "skipped")
    say(
        f"{name}: {formatted(content['value'], content['metric'])} {content['metric']} "
        f"(FP32 {formatted(content['fp32_value'], content['metric'])}), "
        f"{content['size_mib']:.2f} MiB (FP32 {content['fp32_size_mib']:.2f})"
    )
    for step in content["skipped_steps"]:
        say(f"  skipped {step}")
    return Outcome(name, "done")


def failed(name: str, error: Exception) -> Outcome:
    """Say why a run failed, in one line."""
    cause = str(error).splitlines()[0]
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        cause = f"cannot write to {error.filename or 'the disk'} ({error.strerror}); free some space, or outputs=…"
    say(f"error: {cause}", style="red")
    return Outcome(name, "failed", cause)


def say(line: str, style: str | None = None) -> None:
    """A line on the console as it is, names with brackets and numbers included."""
    console.print(line, style=style, soft_wrap=True, markup=False, highlight=False)


def summary(outcomes: list[Outcome], planned: int) -> str:
    """How many runs ended how, those of ``planned`` ones that never began included, and a line for each that failed."""
    counts = Counter(outcome.state for outcome in outcomes)
    counts["left"] += max(planned - len(outcomes), 0)
    total = counts.total()
    parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines = [f"{total} {'run' if total == 1 else 'runs'}: {parts}"]
    lines += [f"  failed {outcome.name}: {outcome.cause}" for outcome in outcomes if outcome.state == "failed"]
    return "\n".join(lines)
