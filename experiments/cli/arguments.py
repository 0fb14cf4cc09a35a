"""What the command line of ``experiments.run`` may say, checked before Hydra reads it: its own messages take a page."""

import re
from pathlib import Path

import hydra
import yaml
from omegaconf import DictConfig, OmegaConf

from experiments.cli.grammar import check_grammar, check_keys_of_hydra, words_and_flags
from experiments.core.choices import (
    CONF,
    EXPERIMENT_KEYS,
    GROUPS,
    SILENT_KEYS,
    check_known,
    choices,
    flattened,
)
from experiments.core.setting_keys import kinds_of_settings
from zeroq.errors import ZeroQError

# What a value with commas that is one value starts with: a list, a dictionary, words in quotes.
QUOTES = ("[", "{", "'", '"')
SWEEP = ("-m", "--multirun", "hydra.mode=MULTIRUN")
REMOTE = ("hydra/launcher=slurm", "hydra/launcher=cluster", "hydra/launcher=submitit_slurm", "hydra/launcher=ray")
SEARCH = "/hydra/sweeper: search"
PARAMS = "hydra.sweeper.params."
# Settings that had another name.
RENAMED = {"results": "outputs"}
# What an experiment is run on, and words for values that it does not have.
SCALES = {"scale": "another", "detector": "another/detector"}
# Settings that are paths, in which Hydra's grammar has no business.
PATHS = ("outputs", "data.root", "model.checkpoint")
PLAIN_PATH = re.compile(r"[\w/.@:+-]*", re.ASCII)
LONGEST = 4096  # characters of an argument; Python reads no longer number
# Hydra's flags that only go with another of its flags.
OF_SHOWN_CONFIG = ("--resolve", "--package", "-p")
SHOWING_CONFIG = ("--cfg", "-c", "--help", "-h")
# The suites of experiments that were called table_resnet18, figure_plans, sweep_size, search_ranges.
SUITES_OF = {"table": ("paper", "extensions"), "figure": ("paper",), "sweep": ("sweeps",), "search": ("search",)}


def is_sweep(arguments: list[str]) -> bool:
    """Whether a command line asks for several runs, as every experiment does."""
    return any(argument in SWEEP or argument.startswith("experiment=") for argument in arguments)


def is_search(arguments: list[str]) -> bool:
    """Whether an optimizer chooses the runs."""
    return SEARCH in experiment_text(arguments) or "hydra/sweeper=search" in arguments


def is_remote(arguments: list[str]) -> bool:
    """Whether other machines do the runs, which may see other folders than this one."""
    return any(argument in REMOTE for argument in arguments)


def outputs_folder(arguments: list[str]) -> Path:
    """Where records go."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        given = [argument for argument in arguments if argument.startswith(("outputs=", "experiment="))]
        return Path(hydra.compose("config", given).outputs)


def quoted(argument: str) -> str:
    """A path as Hydra takes it, whatever characters it has; any other argument as it is."""
    key, separator, value = partitioned(argument)
    if key not in PATHS or not separator or value in ("", "null") or value[0] in QUOTES or PLAIN_PATH.fullmatch(value):
        return argument
    within = value.replace("\\", r"\\").replace("'", r"\'")
    return f"{key}='{within}'"


def checked(arguments: list[str]) -> list[str]:
    """A command line as Hydra takes it, its settings before its flags; raises ZeroQError for what it would not take."""
    words, flags = words_and_flags(arguments)
    check(words, flags)
    return [*words, *flags]


def check(arguments: list[str], flags: list[str]) -> None:
    """Raise ZeroQError for a choice or a setting that does not exist, with the one that was probably meant."""
    if (idle := set(flags) & set(OF_SHOWN_CONFIG)) and not set(flags) & set(SHOWING_CONFIG):
        raise ZeroQError(f"{min(idle)} is of a config that is shown; add --cfg job")
    for argument in arguments:
        group, separator, value = partitioned(argument)
        if len(argument) > LONGEST or not argument.isprintable():
            raise ZeroQError(f"{argument[:40]!r}… is too long, or has characters that end a line")
        if separator and not group:
            raise ZeroQError(f"{argument} names no setting; say setting=value")
        if separator and group in RENAMED:
            raise ZeroQError(f"{argument}: the setting is called {RENAMED[group]} now; say {RENAMED[group]}={value}")
        if group.lstrip("+~").startswith(PARAMS):
            setting = argument.lstrip("+~").removeprefix(PARAMS)
            raise ZeroQError(f"{argument}: a sweep over a setting is the setting itself; say {setting}")
        if group in PATHS and separator and not value.strip("'\""):
            raise ZeroQError(f"{argument} names no place; give a folder or a file, or leave it out")
        if "," in value and value[0] not in QUOTES and not is_sweep([*flags, *arguments]):
            raise ZeroQError(f"{argument}: several values are a sweep: add -m to the command line")
        if group == "experiment":
            check_experiment_name(value)
        elif separator and (known := choices(group)):
            for choice in value.split(","):
                check_known(choice, known, f"there is no {group}={choice}", "choices are")
    check_keys(arguments)
    check_experiment(arguments)


def check_experiment_name(name: str) -> None:
    """Raise ZeroQError for an experiment that does not exist, with its name in a suite where it has one."""
    known = choices("experiment")
    if "," in name:
        raise ZeroQError(f"experiment={name}: one experiment at a time; `make paper-embedded` runs a whole suite")
    if inside := [each for each in known if each.startswith(f"{name}/")]:
        raise ZeroQError(f"experiment={name} is a suite; choose one of {', '.join(inside)}")
    kind, _, rest = name.partition("_")
    today = [f"{suite}/{rest}" for suite in SUITES_OF.get(kind, ())]
    today += [each for each in known if each.endswith(f"/{name}")]
    if name not in known and (found := [each for each in today if each in known]):
        raise ZeroQError(f"there is no experiment={name}; it is called experiment={found[0]}")
    check_known(name, known, f"there is no experiment={name}", "choices are")


def check_experiment(arguments: list[str]) -> None:
    """Raise ZeroQError for a scale or a detector that nothing refers to, and for an experiment that hides a setting.

    A run is named and recorded after its overrides: what an experiment sets must be among those that it sweeps over.
    """
    given = {key: value for key, _, value in map(partitioned, arguments)}
    if sum(argument.startswith("experiment=") for argument in arguments) > 1:
        raise ZeroQError("several experiments: one at a time; `make paper-embedded` runs a whole suite")
    name = given.get("experiment")
    own = (yaml.safe_load(experiment_text(arguments)) or {}).keys()
    if hidden := own - {"hydra", "defaults", *SILENT_KEYS}:
        where = CONF / "experiment" / f"{name}.yaml"
        raise ZeroQError(f"{where} sets {', '.join(sorted(hidden))} beside its runs; put it under hydra.sweeper.params")
    for key in SCALES.keys() & given.keys():
        if not (name and depends_on(name, key)):
            where = f"experiment={name}" if name else "a command line without experiment=…"
            used = [other for other in SCALES if name and depends_on(name, other)]
            raise ZeroQError(f"{where} does not depend on {key}; give {used[0] if used else 'model'}=…")


def depends_on(experiment: str, key: str) -> bool:
    """Whether an experiment has other runs where a scale or a detector is another."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        pair = [
            hydra.compose("config", [f"experiment={experiment}", *words], return_hydra_config=True)
            for words in ([], [f"{key}={SCALES[key]}"])
        ]
    one, other = map(grids_of, pair)
    return one != other


def grids_of(config: DictConfig) -> list[dict[str, object]]:
    """What each grid of an experiment sweeps over, by setting: what all share, and what is its own."""
    shared = config.hydra.sweeper.get("params") or {}
    return [{**dict(shared.items()), **dict(grid.items())} for grid in config.grids]


def experiment_text(arguments: list[str]) -> str:
    """The file of the experiment on a command line; empty where there is none."""
    names = [value for key, _, value in map(partitioned, arguments) if key == "experiment"]
    files = [CONF / "experiment" / f"{name}.yaml" for name in names]
    return "\n".join(file.read_text() for file in files if file.exists())


def check_keys(arguments: list[str]) -> None:
    """Raise ZeroQError for a setting that no choice on the command line has, and for what Hydra cannot read."""
    pairs = [partitioned(argument) for argument in arguments]
    chosen = [f"{group}={choice}" for group, _, value in pairs if group in GROUPS for choice in value.split(",")]
    there = {*GROUPS, "experiment"}
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in ([], *([choice] for choice in chosen)):
            there.update(flattened(OmegaConf.to_container(hydra.compose("config", overrides))))
    check_grammar(arguments, sorted(there))
    for typed, separator, value in pairs:
        sign, key = typed[: len(typed) - len(typed.lstrip("+~"))], typed.lstrip("+~")
        if key.startswith("hydra"):
            continue
        # What is added may be a setting of another choice.
        known = there if sign in ("", "~") else there | kinds_of_settings().keys()
        check_known(key, sorted(known), f"there is no setting {key}", "the settings are")
        if sign == "+" and key in there:
            raise ZeroQError(f"{typed}{separator}{value}: the setting is there already; say {key}{separator}{value}")
    check_keys_of_hydra(arguments)


def of_experiment(overrides: list[str]) -> list[str]:
    """Those overrides that say which runs an experiment has."""
    return [each for each in overrides if partitioned(each)[0].split(".")[0] in ("experiment", *EXPERIMENT_KEYS)]


def partitioned(argument: str) -> tuple[str, str, str]:
    """(key, =, value) of an override."""
    return argument.partition("=")
