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
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.config import CONF, spelling, typed
from experiments.progress import console
from experiments.record import NAMED_GROUPS, formatted, other_settings, read_record, run_name
from experiments.runner import execute
from experiments.sweep import DIED, Outcome, SweepLog, summary
from zeroq.errors import ZeroQError

GROUPS = ("model", "method", "bits", "distill", "data", "tracker")
# What a value with commas that is one value starts with: a list, a dictionary, words in quotes.
QUOTES = ("[", "{", "'", '"')
LIST = "--list"
SWEEP = ("-m", "--multirun", "hydra.mode=MULTIRUN")
COMPLETION = "-sc"
# Of the runs in this process.
outcomes: list[Outcome] = []
listing = False


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run(config: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    log = None
    if hydra_config.mode == RunMode.MULTIRUN:
        log = SweepLog(Path(hydra_config.sweep.dir))
        log.write(hydra_config.job.num, Outcome(hydra_config.job.override_dirname, "failed", DIED))
    outcome = outcome_of(config, hydra_config)
    outcomes.append(outcome)
    if log is not None:
        log.write(hydra_config.job.num, outcome)
    if config.objective is None or outcome.state not in ("done", "skipped"):
        return None
    return read_record(Path(config.results) / "runs" / outcome.name)[config.objective]


def outcome_of(config: DictConfig, hydra_config: DictConfig) -> Outcome:
    """Do one run and say how it ended; a mistake is an outcome too, so that a sweep goes on."""
    name = hydra_config.job.override_dirname
    try:
        settings = typed(config)
        choices = hydra_config.runtime.choices
        others = other_settings(list(hydra_config.overrides.task), changes(config, choices))
        name = run_name(choices, others, settings.seed)
        if listing:
            done = (settings.results / "runs" / name / "record.json").exists()
            say(f"{'done' if done else 'left'}  {name}")
            return Outcome(name, "done" if done else "left")
        content = execute(settings, name, others)
    except (ZeroQError, OSError) as error:
        say(f"error: {error}", style="red")
        return Outcome(name, "failed", str(error))
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


def is_sweep(arguments: list[str]) -> bool:
    """Whether a command line asks for several runs, as every experiment does."""
    return any(argument in SWEEP or argument.startswith("experiment=") for argument in arguments)


def check_choices(arguments: list[str]) -> None:
    """Raise ZeroQError for a choice that a config group does not have (Hydra's own message takes a page)."""
    for argument in arguments:
        group, separator, value = argument.partition("=")
        if "," in value and value[0] not in QUOTES and not is_sweep(arguments):
            raise ZeroQError(f"{argument}: several values are a sweep: add -m to the command line")
        if group not in (*GROUPS, "experiment") or not separator:
            continue
        known = sorted(str(path.relative_to(CONF / group).with_suffix("")) for path in (CONF / group).rglob("*.yaml"))
        for choice in value.split(","):
            if choice not in known:
                close = get_close_matches(choice, known, n=1)
                hint = f"did you mean {close[0]}? " if close else ""
                raise ZeroQError(f"there is no {group}={choice}; {hint}choices are {', '.join(known)}")
    check_keys(arguments)


def check_keys(arguments: list[str]) -> None:
    """Raise ZeroQError for a setting that does not exist, with the one that was probably meant."""
    pairs = [argument.partition("=")[::2] for argument in arguments]
    choices = [f"{group}={choice}" for group, value in pairs if group in GROUPS for choice in value.split(",")]
    known = {*GROUPS, "experiment"}
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for chosen in ([], *([choice] for choice in choices)):
            known.update(flattened(OmegaConf.to_container(hydra.compose("config", chosen))))
    for argument in arguments:
        key, separator, _ = argument.partition("=")
        if not separator or key in known or key[0] in "+~-" or key.startswith("hydra"):
            continue
        close = get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ZeroQError(f"there is no setting {key}; {hint}the settings are {', '.join(sorted(known))}")


def flattened(config: dict, prefix: str = "") -> Iterator[str]:
    """The dotted name of every setting."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")


def main() -> None:
    global listing  # Hydra calls ``run`` with a config and nothing else
    # Errors reach this function, where Hydra would print where they come from and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # A polite kill cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    arguments = sys.argv[1:]
    listing = LIST in arguments
    sweeps = is_sweep(arguments)
    outcomes.clear()
    results = next((each.partition("=")[2] for each in arguments if each.startswith("results=")), "results")
    log = SweepLog(Path(results) / "cache" / "sweeps" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
    # Flags between overrides are more than the parser of Hydra takes.
    sys.argv[1:] = sorted((each for each in arguments if each != LIST), key=lambda each: each not in SWEEP)
    if sweeps:
        sys.argv.append(f"hydra.sweep.dir='{log.folder}'")
    if listing:
        sys.argv[1:] = [each for each in sys.argv[1:] if not each.startswith(("hydra/launcher=", "hydra.launcher."))]
    try:
        if COMPLETION not in arguments:
            check_choices(arguments)
        if sweeps:
            log.folder.mkdir(parents=True)
        try:
            run()
        except Exception:
            # The launchers of several processes each raise an error of their own where a process dies.
            if not any(outcome.cause == DIED for outcome in log.read()):
                raise
        if sweeps:
            outcomes[:] = log.read()
            say(summary(outcomes))
    except (ZeroQError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write to {results} ({error.strerror}); choose another folder with results=…")
    except KeyboardInterrupt:
        sys.exit("interrupted: no record was written; start the same command again to continue")
    finally:
        sys.argv[1:] = arguments
        log.remove()
    if any(outcome.state == "failed" for outcome in outcomes):
        sys.exit(1)


if __name__ == "__main__":
    # Under the module's own name: launchers name the function to other processes, whose __main__ is another.
    from experiments.run import main as start

    start()
