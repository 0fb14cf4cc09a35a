"""Many runs: Hydra does the grids of a command line one after the other, and this says what became of them."""

import os
import shutil
import sys
import time
from collections.abc import Callable

from experiments.cli.arguments import SWEEP, is_remote, is_search, is_sweep, outputs_folder
from experiments.cli.jobs import check_data_of, grids, planned, planned_names, product
from experiments.cli.outcomes import DIED, Outcome, SweepLog, say, summary
from experiments.cli.search import Search
from experiments.core.record import read_content, validation_error
from zeroq.errors import ZeroQError


def list_runs(arguments: list[str]) -> None:
    """Say which runs are done and which are left."""
    if is_search(arguments):
        raise ZeroQError("a search chooses its runs as it goes on, so that there is no list of them")
    folder = outputs_folder(arguments) / "runs"
    outcomes = []
    for name in planned_names(planned(arguments)):
        path = folder / name / "record.json"
        state = "done" if path.exists() and validation_error(read_content(path)) is None else "left"
        outcomes.append(Outcome(name, state))
        say(f"{state}  {name}")
    if is_sweep(arguments):
        say(summary(outcomes, len(outcomes)))


def sweep(arguments: list[str], hydra_main: Callable[[], None]) -> list[Outcome]:
    """Do the runs of a command line with ``hydra_main``, which reads ``sys.argv``, and say what became of each."""
    search = Search.of(arguments) if is_search(arguments) else None
    sweeps = [own_words(arguments)] if search else grids(arguments)
    left = 0 if search else sum(len(product(overrides)) for overrides in sweeps)
    if not is_remote(arguments):
        check_data_of(arguments)
    folder = outputs_folder(arguments) / "cache" / "sweeps" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir(parents=True)
    logs = [SweepLog(folder / str(number)) for number in range(len(sweeps))]
    of_hydra = [argument for argument in arguments if argument.startswith("hydra") and argument not in SWEEP]
    of_hydra += search.overrides() if search else ["hydra.sweeper.params=null"]  # they are among the overrides
    outcomes: list[Outcome] = []
    try:
        for overrides, log in zip(sweeps, logs, strict=True):
            sys.argv[1:] = ["--multirun", *overrides, *of_hydra, f"hydra.sweep.dir='{log.folder}'"]
            if search is None or search.left():
                carry_out(hydra_main, log, search)
    except KeyboardInterrupt:
        for log in logs:
            log.interrupt()
        raise
    finally:
        outcomes += [outcome for log in logs for outcome in log.read()]
        shutil.rmtree(folder, ignore_errors=True)
        if outcomes:
            say(summary(outcomes, left))
    if search:
        say(search.best())
    return outcomes


def own_words(arguments: list[str]) -> list[str]:
    """The overrides of a command line without Hydra's own."""
    return [argument for argument in arguments if argument not in SWEEP and not argument.startswith("hydra")]


def carry_out(hydra_main: Callable[[], None], log: SweepLog, search: Search | None) -> None:
    """Do one of Hydra's sweeps; one that says itself what failed ends well."""
    try:
        hydra_main()
    except Exception:
        # The launchers of several processes each raise an error of their own where a process dies, and optuna one
        # where no trial gave a value.
        in_vain = search is not None and not search.completed() and log.read()
        if not in_vain and not any(outcome.cause == DIED for outcome in log.read()):
            raise
