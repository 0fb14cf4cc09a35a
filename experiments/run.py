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
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.cli.arguments import checked, is_sweep, quoted
from experiments.cli.grammar import LIST
from experiments.cli.jobs import name_and_settings, without
from experiments.cli.outcomes import DIED, Outcome, SweepLog, failed, outcome_of
from experiments.cli.sweep import list_runs, sweep
from experiments.core.choices import CONF
from experiments.core.record import read_record
from zeroq.errors import ZeroQError

COMPLETION = "-sc"
# Of the runs in this process, since what Hydra calls returns nothing.
outcomes: list[Outcome] = []


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def run(config: DictConfig) -> float | None:
    """One run; its objective, for a search."""
    hydra_config = HydraConfig.get()
    sweeping = hydra_config.mode == RunMode.MULTIRUN
    log = SweepLog(Path(hydra_config.sweep.dir))
    try:
        overrides, choices = list(hydra_config.overrides.task), hydra_config.runtime.choices
        if isinstance(config.seed, str):
            raise ZeroQError(f"seed must be a whole number, not {config.seed!r}")
        name, others, idle = name_and_settings(overrides, choices, config.seed, lambda: config)
        if sweeping:
            log.write(hydra_config.job.num, Outcome(name, "failed", DIED))
            config = without(config, overrides, idle)
        outcome = outcome_of(config, name, others, idle, sweeping=sweeping)
    except (ZeroQError, OmegaConfBaseException) as error:  # what has no name yet
        outcome = failed(" ".join(map(str, OmegaConf.to_container(hydra_config.overrides.task))), error)
    outcomes.append(outcome)
    if sweeping:
        log.write(hydra_config.job.num, outcome)
    if config.objective is None or outcome.state not in ("done", "skipped"):
        return None
    return read_record(Path(config.outputs) / "runs" / outcome.name)[config.objective]


def main() -> None:
    # Errors reach this function, where Hydra would print where they come from and exit.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # A polite kill cleans up like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    given = sys.argv[1:]
    arguments = sys.argv[1:] = [quoted(each) for each in given]
    outcomes.clear()
    try:
        if COMPLETION in arguments:
            run()
        else:
            asked = sys.argv[1:] = checked(arguments)
            if LIST in arguments:
                list_runs(asked)
            elif is_sweep(asked):
                outcomes[:] = sweep(asked, run)
            else:
                run()
    except MissingConfigException as error:
        hint = "; pip install -r requirements-sweeps.txt" if "hydra/" in str(error.missing_cfg_file) else ""
        sys.exit(f"error: {str(error).splitlines()[0]}{hint}")
    except (ZeroQError, HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {str(error).splitlines()[0]}")
    except OSError as error:
        sys.exit(f"error: cannot write to {error.filename or 'the disk'} ({error.strerror}); choose another outputs=…")
    except KeyboardInterrupt:
        sys.exit("interrupted: start the same command again to continue")
    finally:
        sys.argv[1:] = given
    if any(outcome.state == "failed" for outcome in outcomes):
        sys.exit(1)


if __name__ == "__main__":
    # Under the module's own name: launchers name the function to other processes, whose __main__ is another.
    from experiments.run import main as start

    start()
