"""Quantize one network with one method and one bit setting, or sweep over many.

    python -m experiments.run model=fashion/mobilenetv2 method=zeroq bits=mp4a8 seed=0
    python -m experiments.run -m model=fashion/resnet18,fashion/mobilenetv2 method=zeroq,gaussian bits=w4a8,mp4a8

A run whose record exists is skipped; force=true runs it again, and --list only says which runs are done and which are
left. Stages that do not differ between runs (the FP32 score, distilled images, sensitivities) are computed once and
kept in outputs/cache.
"""

import os
import signal
import sys
import time
import traceback
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments.cli.arguments import CONF, SWEEP, check, is_remote, is_search, is_sweep, outputs_folder
from experiments.cli.jobs import check_data_of, name_and_settings, planned, planned_names
from experiments.cli.search import Search
from experiments.cli.sweep import DIED, Outcome, SweepLog, summary
from experiments.core.progress import console
from experiments.core.record import flaw, formatted, read_content, read_record
from zeroq.errors import ZeroQError

LIST = "--list"
COMPLETION = "-sc"
# Of the runs in this process.
outcomes: list[Outcome] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run(config: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    overrides, choices = list(hydra_config.overrides.task), hydra_config.runtime.choices
    name, others = name_and_settings(overrides, choices, config.seed, lambda: config)
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    log = SweepLog(Path(hydra_config.sweep.dir))
    if sweeping:
        log.write(hydra_config.job.num, Outcome(name, "failed", DIED))
    outcome = outcome_of(config, name, others, sweeping=sweeping)
    outcomes.append(outcome)
    if sweeping:
        log.write(hydra_config.job.num, outcome)
    if config.objective is None or outcome.state not in ("done", "skipped"):
        return None
    return read_record(Path(config.outputs) / "runs" / outcome.name)[config.objective]


def outcome_of(config: DictConfig, name: str, others: dict[str, str], *, sweeping: bool) -> Outcome:
    """Do one run and say how it ended; a mistake is an outcome too, so that a sweep goes on."""
    try:
        # PyTorch takes seconds to import: --help, completion and mistyped settings do not wait for it.
        from experiments.core.config import typed
        from experiments.core.once import execute

        content = execute(typed(config), name, others)
    except (ZeroQError, OSError) as error:
        say(f"error: {error}", style="red")
        return Outcome(name, "failed", str(error))
    except Exception as error:
        if not sweeping:
            raise
        traceback.print_exc()
        return Outcome(name, "failed", f"{type(error).__name__}: {error}".splitlines()[0])
    if content is None:
        say(f"{name}: done before, skipped (force=true runs it again)")
        return Outcome(name, "skipped")
    say(
        f"{name}: {formatted(content['value'], content['metric'])} {content['metric']} "
        f"(FP32 {formatted(content['fp32_value'], content['metric'])}), "
        f"{content['size_mib']:.2f} MiB (FP32 {content['fp32_size_mib']:.2f})"
    )
    for step in content["skipped_steps"]:
        say(f"  skipped {step}")
    return Outcome(name, "done")


def say(line: str, style: str | None = None) -> None:
    """A line on the console as it is, names with brackets and numbers included."""
    console.print(line, style=style, soft_wrap=True, markup=False, highlight=False)


def main() -> None:
    # Errors reach this function, where Hydra would print where they come from and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # A polite kill cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = sys.argv[1:]
    asked = [each for each in arguments if each != LIST]
    outcomes.clear()
    try:
        if COMPLETION in arguments:
            run()
        else:
            check(asked)
            if LIST in arguments:
                list_runs(asked)
            elif is_sweep(asked):
                sweep(asked)
            else:
                run()
    except MissingConfigException as error:
        hint = "; pip install -r requirements-sweeps.txt" if "hydra/" in str(error.missing_cfg_file) else ""
        sys.exit(f"error: {str(error).splitlines()[0]}{hint}")
    except (ZeroQError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write to {error.filename or 'the disk'} ({error.strerror}); choose another outputs=…")
    except KeyboardInterrupt:
        sys.exit("interrupted: start the same command again to continue")
    finally:
        sys.argv[1:] = arguments
    if any(outcome.state == "failed" for outcome in outcomes):
        sys.exit(1)


def list_runs(arguments: list[str]) -> None:
    """Say which runs are done and which are left."""
    if is_search(arguments):
        raise ZeroQError("a search chooses its runs as it goes on, so that there is no list of them")
    folder = outputs_folder(arguments) / "runs"
    for name in planned_names(planned(arguments)):
        path = folder / name / "record.json"
        state = "done" if path.exists() and flaw(read_content(path)) is None else "left"
        outcomes.append(Outcome(name, state))
        say(f"{state}  {name}")
    if is_sweep(arguments):
        say(summary(outcomes, len(outcomes)))


def sweep(arguments: list[str]) -> None:
    """Many runs, and at the end what became of each."""
    search = Search.of(arguments) if is_search(arguments) else None
    jobs = [] if search else planned(arguments)
    if not is_remote(arguments):
        check_data_of(arguments)
    log = SweepLog(outputs_folder(arguments) / "cache" / "sweeps" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    log.folder.mkdir(parents=True)
    # Flags between overrides are more than the parser of Hydra takes.
    sys.argv[1:] = sorted(arguments, key=lambda each: each not in SWEEP)
    sys.argv.append(f"hydra.sweep.dir='{log.folder}'")
    if search:
        sys.argv += search.overrides()
    try:
        if search is None or search.left():
            run()
    except KeyboardInterrupt:
        log.interrupt()
        raise
    except Exception:
        # The launchers of several processes each raise an error of their own where a process dies, and optuna one
        # where no trial gave a value.
        in_vain = search is not None and not search.completed() and log.read()
        if not in_vain and not any(outcome.cause == DIED for outcome in log.read()):
            raise
    finally:
        outcomes[:] = log.read()
        log.remove()
        if outcomes:
            say(summary(outcomes, len(jobs)))
    if search:
        say(search.best())


if __name__ == "__main__":
    # Under the module's own name: launchers name the function to other processes, whose __main__ is another.
    from experiments.run import main as start

    start()
