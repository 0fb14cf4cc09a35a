"""Quantize one network with one method and one bit setting, or sweep over many.

    python -m experiments.run model=fashion/mobilenetv2 method=zeroq bits=mp4a8 seed=0
    python -m experiments.run -m model=fashion/resnet18,fashion/mobilenetv2 method=zeroq,gaussian bits=w4a8,mp4a8

A run whose record exists is skipped; force=true runs it again, and --list only says which runs are done and which are
left. Stages that do not differ between runs (the FP32 score, distilled images, sensitivities) are computed once and
kept in results/cache.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.arguments import CONF, GROUPS, SWEEP, check, is_search, is_sweep, results_folder
from experiments.progress import console
from experiments.record import (
    NAMED_GROUPS,
    flaw,
    formatted,
    other_settings,
    read_content,
    read_record,
    run_name,
    spelling,
)
from experiments.search import Search
from experiments.sweep import DIED, Outcome, SweepLog, summary
from zeroq.errors import ZeroQError

LIST = "--list"
COMPLETION = "-sc"
# Of the runs in this process.
outcomes: list[Outcome] = []
listing = False


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run(config: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    choices = hydra_config.runtime.choices
    others = other_settings(list(hydra_config.overrides.task), changes(config, choices))
    name = run_name(choices, others, config.seed)
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
    return read_record(Path(config.results) / "runs" / outcome.name)[config.objective]


def outcome_of(config: DictConfig, name: str, others: dict[str, str], *, sweeping: bool) -> Outcome:
    """Do one run and say how it ended; a mistake is an outcome too, so that a sweep goes on."""
    try:
        # PyTorch takes seconds to import: --help, completion and mistyped settings do not wait for it.
        from experiments.config import typed

        settings = typed(config)
        if listing:
            path = settings.results / "runs" / name / "record.json"
            done = path.exists() and flaw(read_content(path)) is None
            say(f"{'done' if done else 'left'}  {name}")
            return Outcome(name, "done" if done else "left")
        # Nor does --list for W&B and the libraries of networks.
        from experiments.runner import execute

        content = execute(settings, name, others)
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


def changes(config: DictConfig, choices: dict[str, str]) -> Callable[[str, str], str | None]:
    """A function (key, value as it was typed) → the value in one spelling; None where the rest implies it anyway."""
    named, chosen = (
        hydra.compose("config", [f"{group}={choices[group]}" for group in groups], return_hydra_config=True)
        for groups in (NAMED_GROUPS, GROUPS)
    )

    def changed_value(key: str, typed: str) -> str | None:
        if key in choices:
            return None if named.hydra.runtime.choices[key] == typed else typed
        try:
            if OmegaConf.select(chosen, key) == OmegaConf.select(config, key):
                return None
        except OmegaConfBaseException:  # refers to a value that only this command line gives
            pass
        return spelling(config, key)

    return changed_value


def main() -> None:
    global listing  # Hydra calls ``run`` with a config and nothing else
    # Errors reach this function, where Hydra would print where they come from and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # A polite kill cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = sys.argv[1:]
    listing = LIST in arguments
    outcomes.clear()
    try:
        if COMPLETION in arguments:
            run()
        else:
            check([each for each in arguments if each != LIST])
            (sweep if is_sweep(arguments) else single)(arguments)
    except MissingConfigException as error:
        hint = "; pip install -r requirements-sweeps.txt" if "hydra/" in str(error.missing_cfg_file) else ""
        sys.exit(f"error: {str(error).splitlines()[0]}{hint}")
    except (ZeroQError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write to {error.filename or 'the disk'} ({error.strerror}); choose another results=…")
    except KeyboardInterrupt:
        sys.exit("interrupted: start the same command again to continue")
    finally:
        sys.argv[1:] = arguments
    if any(outcome.state == "failed" for outcome in outcomes):
        sys.exit(1)


def single(arguments: list[str]) -> None:
    """One run."""
    sys.argv[1:] = [each for each in arguments if each != LIST]
    run()


def sweep(arguments: list[str]) -> None:
    """Many runs, and at the end what became of each."""
    search = Search.of(arguments) if is_search(arguments) else None
    if search and listing:
        raise ZeroQError("a search chooses its runs as it goes on, so that there is no list of them")
    log = SweepLog(results_folder(arguments) / "cache" / "sweeps" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    log.folder.mkdir(parents=True)
    # Flags between overrides are more than the parser of Hydra takes.
    sys.argv[1:] = sorted((each for each in arguments if each != LIST), key=lambda each: each not in SWEEP)
    sys.argv.append(f"hydra.sweep.dir='{log.folder}'")
    if search:
        sys.argv += search.overrides()
    if listing:
        sys.argv[1:] = [each for each in sys.argv[1:] if not each.startswith(("hydra/launcher=", "hydra.launcher."))]
    try:
        if search is None or search.left():
            run()
    except Exception:
        # The launchers of several processes each raise an error of their own where a process dies.
        if not any(outcome.cause == DIED for outcome in log.read()):
            raise
    finally:
        outcomes[:] = log.read()
        log.remove()
        if outcomes:
            say(summary(outcomes))
    if search:
        say(search.best())


if __name__ == "__main__":
    # Under the module's own name: launchers name the function to other processes, whose __main__ is another.
    from experiments.run import main as start

    start()
