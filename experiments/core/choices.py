"""The groups of settings in ``conf``, and what may be chosen from each."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from zeroq.errors import ZeroQError

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("model", "method", "bits", "distill", "data", "tracker")
# What says which runs an experiment has; no run sees it.
EXPERIMENT_KEYS = ("scale", "detector", "lists", "grids")
# Overrides that do not change a run's result: neither its name nor its record has them.
SILENT_KEYS = ("force", "outputs", "tracker", "device", "data.root", "hydra", "objective")
SILENT_KEYS += ("experiment", *EXPERIMENT_KEYS)  # an experiment is the runs that it names
OF_HYDRA = {
    "hydra/launcher": ("basic", "joblib", "ray", "submitit_local", "submitit_slurm"),
    "hydra/sweeper": ("basic", "optuna"),
}


def choices(group: str) -> list[str]:
    """What may stand behind a group's name; nothing for a setting that is no group."""
    if group == "scale":
        return sorted(path.parent.name for path in (CONF / "model").glob("*/resnet50.yaml"))
    if group not in (*GROUPS, "experiment", *OF_HYDRA):
        return []
    own = [str(path.relative_to(CONF / group).with_suffix("")) for path in (CONF / group).rglob("*.yaml")]
    return sorted([*own, *OF_HYDRA.get(group, ())])


def check_known(word: str, known: list[str], complaint: str, introduction: str) -> None:
    """Raise ZeroQError unless a word is among those that are known."""
    if word not in known:
        close = get_close_matches(word, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ZeroQError(f"{complaint}; {hint}{introduction} {', '.join(known)}")


def flattened(config: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted name of every setting."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
