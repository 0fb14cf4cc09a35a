"""The records of a W&B project, as ``experiments.core.tracker`` logged them."""

import json
from typing import Any

import wandb

from experiments.analysis.collection import Collection, collection
from zeroq.errors import ZeroQError


def from_wandb(entity: str, project: str) -> Collection:
    """The records of a project's runs; of several runs of one name, the last. Runs that did not finish have none.

    Raises ZeroQError where W&B cannot be asked, and where the project holds no records.
    """
    path = f"{entity}/{project}"
    try:
        runs = list(wandb.Api().runs(path, lazy=False))
    except (wandb.Error, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise ZeroQError(
            f"W&B does not show {path} ({reason}); log in with `wandb login`, and look for the names at wandb.ai"
        ) from error
    found: dict[str, Any] = {}
    for run in runs:  # the oldest first
        if run.state != "finished":
            continue
        try:
            found[run.name] = json.loads(run.summary["record"])
        except (KeyError, TypeError, ValueError) as error:
            found[run.name] = ValueError(f"its summary has no record, {error!r}")
    if not found:
        raise ZeroQError(
            f"{path} has no finished runs; upload offline ones with `wandb sync` (experiments.sync lists them)"
        )
    return collection(found)
