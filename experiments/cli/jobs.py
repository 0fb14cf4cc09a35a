"""The runs that a command line asks for, and what each is called."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.cli.arguments import SWEEP, grids_of, of_experiment, partitioned
from experiments.core.choices import CONF, GROUPS
from experiments.core.idle import without_idle
from experiments.core.record import NAMED_GROUPS, is_silent, other_settings, run_name, spelling
from experiments.core.setting_keys import kinds_of_settings
from zeroq.errors import ZeroQError

# What says which data a run is on.
DATA_KEYS = ("model", "method", "data")


@cache
def composed(*overrides: str) -> DictConfig:
    """The config with Hydra's own part; composing takes a tenth of a second, and a sweep asks for the same ones."""
    return hydra.compose("config", list(overrides), return_hydra_config=True)


def grids(arguments: list[str]) -> list[list[str]]:
    """The overrides of each sweep that a command line asks for: one, or as many as its experiment has grids.

    What the command line sets takes the place of what the experiment does; a grid that adds no run then is left out.
    """
    task = [each for each in arguments if each not in SWEEP and not each.startswith("hydra")]
    given = {partitioned(each)[0].lstrip("+~") for each in task}
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        settings = grids_of(composed(*of_experiment(task)))
    found, known = [], set()
    for grid in settings:
        overrides = [*(f"{key}={value}" for key, value in grid.items() if key not in given), *task]
        jobs = {frozenset(job) for job in product(overrides)}
        if not jobs <= known:
            found.append(overrides)
            known |= jobs
    return found


def product(overrides: list[str]) -> list[list[str]]:
    """The overrides of each run of a sweep, in the order in which Hydra does them."""
    return BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(overrides), None)[0]


def planned(arguments: list[str]) -> list[list[str]]:
    """The overrides of each run of a command line, in the order in which they are done."""
    return [job for overrides in grids(arguments) for job in product(overrides)]


def planned_names(jobs: list[list[str]]) -> Iterator[str]:
    """The name of each run, composing its config only where it sets more than a name always states."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        plain = composed()
        for overrides in jobs:
            given = dict(override.lstrip("+~").split("=", 1) for override in overrides)
            named = {key: given[key] for key in NAMED_GROUPS if key in given}
            others = [each for each in overrides if is_further(partitioned(each)[0].lstrip("+~"))]
            # Which data there are depends on the model, and no choice on a method or on bits.
            deciding = [*(f"{key}={choice}" for key, choice in named.items() if key == "model"), *others]
            deciding = [each for each in deciding if partitioned(each)[0].lstrip("+~") in plain.hydra.runtime.choices]
            choices = {**composed(*deciding).hydra.runtime.choices, **named}
            words = (*(f"{key}={choice}" for key, choice in named.items()), *others)
            seed = given.get("seed", plain.seed)
            name, *_ = name_and_settings(overrides, choices, seed, lambda words=words: composed(*words))
            yield name


def is_further(key: str) -> bool:
    """Whether a setting is one beyond those that every name states."""
    return key not in (*NAMED_GROUPS, "seed") and not is_silent(key)


def name_and_settings(
    overrides: list[str], choices: dict[str, str], seed: int | str, config: Callable[[], DictConfig]
) -> tuple[str, dict[str, str], list[str]]:
    """A run's name, what it sets beyond model, method, bits and seed, as its record has it, and what does nothing.

    What does nothing is a setting that the run's method does not use, but others of a sweep may; no name has it.
    ``choices`` are those of all groups, ``config`` gives the composed config, for values that refer to others.
    """

    def changed_value(key: str, typed: str) -> str | None:
        """The value in one spelling; None where the choices imply it anyway."""
        if key in choices:
            named = [f"{group}={choices[group]}" for group in NAMED_GROUPS]
            # A choice may have two names: distill=paper is distill=published.
            same = OmegaConf.select(composed(*named), key) == OmegaConf.select(composed(*named, f"{key}={typed}"), key)
            return None if same else typed
        chosen = composed(*(f"{group}={choices[group]}" for group in GROUPS))
        own = config() if "${" in typed else alone(key, typed)
        try:
            if OmegaConf.select(chosen, key) == OmegaConf.select(own, key):
                return None
        except OmegaConfBaseException:  # refers to a value that only this command line gives
            pass
        return spelling(own, key)

    given = settings = other_settings(overrides, changed_value)
    if given:
        method = config().method
        settings = without_idle(given, method.images, method.ranges, uniform=method.uniform)
    return run_name(choices, settings, seed), settings, [key for key in given if key not in settings]


def alone(key: str, typed: str) -> DictConfig:
    """A config of nothing but a setting, with its value as Hydra reads it; a number in quotes is a number."""
    parser, config = OverridesParser.create(), OmegaConf.create({})
    value = parser.parse_override(f"{key}={typed}").value()
    if isinstance(value, str) and str not in kinds_of_settings().get(key, {str}):
        with suppress(HydraException):
            value = parser.parse_override(f"{key}={value}").value()
    OmegaConf.update(config, key, value)
    return config


def without(config: DictConfig, overrides: list[str], keys: list[str]) -> DictConfig:
    """The config of a run whose command line does not name some settings; without Hydra's own part."""
    if not keys:
        return config
    kept = composed(*(each for each in overrides if partitioned(each)[0].lstrip("+~") not in keys))
    return OmegaConf.masked_copy(kept, list(config))


def check_data_of(arguments: list[str]) -> None:
    """Raise ZeroQError where the data of a run are not where they should be: once, and before the first run."""
    # PyTorch takes seconds to import.
    from experiments.core.config import DataConfig
    from experiments.core.sources import check_data

    jobs = ([each for each in job if each.lstrip("+~").startswith(DATA_KEYS)] for job in planned(arguments))
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = [composed(*overrides) for overrides in dict.fromkeys(map(tuple, jobs))]
    for config in chosen:
        if OmegaConf.is_missing(config.data, "root"):
            raise ZeroQError("data.root is missing; give the folder of your copy of the data, data.root=…")
        data = DataConfig(config.data.name, Path(str(config.data.root)))
        check_data(data)
        if config.method.images == "real":
            check_data(data, train=True)
