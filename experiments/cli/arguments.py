"""What the command line of ``experiments.run`` may say, checked before Hydra reads it: its own messages take a page."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import hydra
import yaml
from omegaconf import OmegaConf

from experiments.core.record import SILENT_KEYS
from zeroq.errors import ZeroQError

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("model", "method", "bits", "distill", "data", "tracker")
# Groups whose choices are files of their own, and those of Hydra's that this project adds to.
LISTED = (*GROUPS, "experiment", "hydra/launcher", "hydra/sweeper")
OF_HYDRA = {"hydra/launcher": ("basic", "joblib", "ray", "submitit_local", "submitit_slurm")}
OF_HYDRA["hydra/sweeper"] = ("basic", "optuna")
# What a value with commas that is one value starts with: a list, a dictionary, words in quotes.
QUOTES = ("[", "{", "'", '"')
# What an experiment's file may refer to.
OF_EXPERIMENTS = ("scale", "detector")
SWEEP = ("-m", "--multirun", "hydra.mode=MULTIRUN")
REMOTE = ("hydra/launcher=slurm", "hydra/launcher=cluster", "hydra/launcher=submitit_slurm", "hydra/launcher=ray")
SEARCH = "/hydra/sweeper: search"
# Settings that had another name.
RENAMED = {"results": "outputs"}


def is_sweep(arguments: list[str]) -> bool:
    """Whether a command line asks for several runs, as every experiment does."""
    return any(argument in SWEEP or argument.startswith("experiment=") for argument in arguments)


def is_search(arguments: list[str]) -> bool:
    """Whether an optimizer chooses the runs."""
    experiments = [value for key, _, value in map(partitioned, arguments) if key == "experiment"]
    files = [CONF / "experiment" / f"{name}.yaml" for name in experiments]
    chosen = any(SEARCH in file.read_text() for file in files if file.exists())
    return chosen or "hydra/sweeper=search" in arguments


def is_remote(arguments: list[str]) -> bool:
    """Whether other machines do the runs, which may see other folders than this one."""
    return any(argument in REMOTE for argument in arguments)


def outputs_folder(arguments: list[str]) -> Path:
    """Where records go."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        told = [argument for argument in arguments if argument.startswith(("outputs=", "experiment="))]
        return Path(hydra.compose("config", told).outputs)


def check(arguments: list[str]) -> None:
    """Raise ZeroQError for a choice or a setting that does not exist, with the one that was probably meant."""
    for argument in arguments:
        group, separator, value = partitioned(argument)
        if separator and group in RENAMED:
            raise ZeroQError(f"{argument}: the setting is called {RENAMED[group]} now; say {RENAMED[group]}={value}")
        if "," in value and value[0] not in QUOTES and not is_sweep(arguments):
            raise ZeroQError(f"{argument}: several values are a sweep: add -m to the command line")
        if separator and (known := choices(group)):
            for choice in value.split(","):
                check_known(choice, known, f"there is no {group}={choice}", "choices are")
    check_keys(arguments)
    check_experiment(arguments)


def check_experiment(arguments: list[str]) -> None:
    """Raise ZeroQError for a scale or a detector that nothing refers to, and for an experiment that hides a setting.

    A run is named and recorded after its overrides: what an experiment sets must be among those that it sweeps over.
    """
    told = {key: value for key, _, value in map(partitioned, arguments)}
    file = CONF / "experiment" / f"{told.get('experiment')}.yaml"
    words = file.read_text() if file.exists() else ""
    if hidden := (yaml.safe_load(words) or {}).keys() - {"hydra", "defaults", *SILENT_KEYS}:
        raise ZeroQError(f"{file} sets {', '.join(sorted(hidden))} beside its runs; put it under hydra.sweeper.params")
    used = [key for key in OF_EXPERIMENTS if f"${{{key}}}" in words]
    for key in OF_EXPERIMENTS:
        if key in told and key not in used:
            where = f"experiment={told['experiment']}" if words else "a command line without experiment=…"
            hint = f"; give {used[0]}=…" if used else "; give model=…"
            raise ZeroQError(f"{where} does not depend on {key}{hint}")


def choices(group: str) -> list[str]:
    """What may stand behind a group's name; nothing for a setting that is no group."""
    if group == "scale":
        return sorted(path.parent.name for path in (CONF / "model").glob("*/resnet50.yaml"))
    if group not in LISTED:
        return []
    own = [str(path.relative_to(CONF / group).with_suffix("")) for path in (CONF / group).rglob("*.yaml")]
    return sorted([*own, *OF_HYDRA.get(group, ())])


def check_keys(arguments: list[str]) -> None:
    """Raise ZeroQError for a setting that no choice on the command line has."""
    pairs = [partitioned(argument) for argument in arguments]
    chosen = [f"{group}={choice}" for group, _, value in pairs if group in GROUPS for choice in value.split(",")]
    known = {*GROUPS, "experiment"}
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in ([], *([choice] for choice in chosen)):
            known.update(flattened(OmegaConf.to_container(hydra.compose("config", overrides))))
    for key, separator, _ in pairs:
        if separator and key[0] not in "+~-" and not key.startswith("hydra"):
            check_known(key, sorted(known), f"there is no setting {key}", "the settings are")


def check_known(word: str, known: list[str], complaint: str, introduction: str) -> None:
    """Raise ZeroQError unless a word is among those that are known."""
    if word not in known:
        close = get_close_matches(word, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ZeroQError(f"{complaint}; {hint}{introduction} {', '.join(known)}")


def flattened(config: dict, prefix: str = "") -> Iterator[str]:
    """The dotted name of every setting."""
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")


def partitioned(argument: str) -> tuple[str, str, str]:
    """(key, =, value) of an override."""
    return argument.partition("=")
