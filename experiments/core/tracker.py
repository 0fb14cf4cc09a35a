"""One run in Weights & Biases: the config, the numbers, the tables and the images.

A run is told to W&B when its record is in place, and what W&B does then costs no result: where it fails, hangs or is
slow, there is a warning, and the process's other runs are not told.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas
import wandb

from experiments.core.config import RunConfig
from experiments.core.progress import console
from zeroq.errors import ZeroQError

# No look-ups of its own, nothing on the console.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_SILENT", "true")
# What writing a run's files, uploading them and ending W&B's own process may take, in seconds.
WRITING, UPLOADING, ENDING = 30, 30, 5
_out_of_order = threading.Event()


@dataclass(frozen=True)
class Findings:
    """What a run leaves beside its record: losses by iteration, tables where it has them, a picture of its images."""

    losses: list[float]
    sensitivity: pandas.DataFrame | None
    frontier: pandas.DataFrame | None
    picture: str | None


@cache
def check_login() -> None:
    """Raise ZeroQError where nobody has logged in on this machine; a server that does not answer may do so later."""
    try:
        wandb.Api(timeout=2)
    except wandb.errors.UsageError as error:
        if type(error) is wandb.errors.UsageError:
            raise ZeroQError("W&B knows no account here; log in with `wandb login`, or use tracker=offline") from error
    except (wandb.Error, OSError, ValueError):
        pass


def track(config: RunConfig, name: str, folder: Path, record: dict[str, Any], findings: Findings) -> None:
    """Leave an offline run of W&B in a run's folder and, with ``tracker=online``, upload it."""
    if config.tracker.mode == "disabled" or _out_of_order.is_set():
        return
    later = f"upload it later: python -m experiments.sync outputs={config.outputs}"
    try:
        _within(WRITING, lambda: _write(config, name, folder, record, findings))
        if config.tracker.mode == "online":
            _upload(config, folder)
    except Exception as error:  # whatever W&B raises: the record is in place
        _out_of_order.set()
        with suppress(Exception):  # else it complains once more when the program ends
            _within(ENDING, wandb.teardown)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        what = later if list(folder.glob("wandb/offline-run-*")) else "its record is whole"
        console.print(
            f"warning: W&B does not take {name} ({reason}); {what}. Other runs of this process are not told to W&B",
            style="yellow",
            highlight=False,
            markup=False,
        )


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Call, and raise what it raises, or TimeoutError where it takes longer; it may then go on in its thread."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"no answer for {seconds} s")
    if raised:
        raise raised[0]


def _write(config: RunConfig, name: str, folder: Path, record: dict[str, Any], findings: Findings) -> None:
    """An offline run: the losses one after the other, then tables and images, and all of the record."""
    run = wandb.init(
        project=config.tracker.project,
        entity=config.tracker.entity,
        mode="offline",
        name=name,
        dir=folder,
        config=asdict(config),
        settings=wandb.Settings(x_disable_stats=True, silent=True),
    )
    try:
        for loss in findings.losses:
            run.log({"batch_norm_loss": loss})
        content: dict[str, Any] = {f"seconds/{stage}": seconds for stage, seconds in record["seconds"].items()}
        plan = pandas.DataFrame(record["plan"].items(), columns=["layer", "bits"])
        content["plan"] = wandb.Table(dataframe=plan)
        if findings.sensitivity is not None:
            columns = findings.sensitivity.reset_index()
            content["sensitivity"] = wandb.Table(dataframe=columns.rename(columns=str))
        if findings.frontier is not None:
            content["frontier"] = wandb.Table(dataframe=findings.frontier)
        if findings.picture is not None:
            content["calibration_images"] = wandb.Image(str(folder / findings.picture))
        run.log(content)
        run.summary.update({key: value for key, value in record.items() if isinstance(value, int | float | str)})
        run.summary["record"] = json.dumps(record)  # whole, for tables from W&B
    except Exception:
        run.finish(exit_code=1)
        raise
    run.finish()


def _upload(config: RunConfig, folder: Path) -> None:
    """Upload a run's offline run, with a process that can be stopped; raises OSError and TimeoutError."""
    where = {"--project": config.tracker.project, "--entity": config.tracker.entity}
    options = [word for option, value in where.items() if value for word in (option, value)]
    command = [sys.executable, "-m", "wandb", "sync", *options, *map(str, folder.glob("wandb/offline-run-*"))]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=UPLOADING)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)  # and the one that it started
        process.communicate()
        raise TimeoutError(f"its server did not answer for {UPLOADING} s") from error
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        raise OSError(lines[-1] if lines else "it failed")
