"""One run in Weights & Biases: the config, the numbers, the tables and the images."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
import wandb

from experiments.core.config import RunConfig
from zeroq.errors import ZeroQError

# No look-ups of its own, nothing on the console.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_SILENT", "true")


@contextmanager
def tracked(config: RunConfig, name: str, folder: Path) -> Iterator[wandb.Run]:
    """A W&B run whose files lie in the record's folder; it ends as failed where the block raises."""
    try:
        run = wandb.init(
            project=config.tracker.project,
            entity=config.tracker.entity,
            mode=config.tracker.mode,
            name=name,
            dir=folder,
            config=asdict(config),
            settings=wandb.Settings(x_disable_stats=True, silent=True),
        )
    except wandb.Error as error:
        raise ZeroQError(
            f"W&B does not take this run ({str(error).splitlines()[0]}); log in with `wandb login`, or use "
            f"tracker=offline"
        ) from error
    try:
        yield run
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def log_record(
    run: wandb.Run,
    record: dict[str, Any],
    *,
    losses: list[float],
    sensitivity: pandas.DataFrame | None,
    frontier: pandas.DataFrame | None,
    images: Path | None,
) -> None:
    """Log what the record's files hold."""
    for loss in losses:
        run.log({"batch_norm_loss": loss})
    content: dict[str, Any] = {f"seconds/{stage}": seconds for stage, seconds in record["seconds"].items()}
    plan = pandas.DataFrame(record["plan"].items(), columns=["layer", "bits"])
    content["plan"] = wandb.Table(dataframe=plan)
    if sensitivity is not None:
        columns = sensitivity.reset_index()
        content["sensitivity"] = wandb.Table(dataframe=columns.rename(columns=str))
    if frontier is not None:
        content["frontier"] = wandb.Table(dataframe=frontier)
    if images is not None:
        content["calibration_images"] = wandb.Image(str(images))
    run.log(content)
    run.summary.update({key: value for key, value in record.items() if isinstance(value, int | float | str)})
    run.summary["record"] = json.dumps(record)  # whole, for tables from W&B
