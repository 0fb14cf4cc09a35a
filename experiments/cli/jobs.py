"""The runs that a command line asks for, and what each is called."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.cli.arguments import CONF, GROUPS, OF_EXPERIMENTS, SWEEP, partitioned
from experiments.core.record import NAMED_GROUPS, SILENT_KEYS, other_settings, run_name, spelling
from zeroq.errors import ZeroQError


@cache
def composed(*overrides: str) -> DictConfig:
    """The config with Hydra's own part; composing takes a tenth of a second, and a sweep asks for the same ones."""
    return hydra.compose("config", list(overrides), return_hydra_config=True)


def planned(arguments: list[str], only: tuple[str, ...] = ("",)) -> list[list[str]]:
    """The overrides of each run of a command line, in the order in which Hydra does them.

    ``only`` names the beginnings of those that matter; then each combination of them is there once.
    """
    task = [each for each in arguments if each not in SWEEP and not each.startswith("hydra")]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        params = composed(*of_experiment(task)).hydra.sweeper.get("params") or {}
    chosen = [each for each in (*(f"{k}={v}" for k, v in params.items()), *task) if each.lstrip("+~").startswith(only)]
    return BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(chosen), None)[0]


def planned_names(jobs: list[list[str]]) -> Iterator[str]:
    """The name of each run, composing its config only where it sets more than a name always states."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in jobs:
            plain = composed(*of_experiment(overrides))
            told = dict(override.split("=", 1) for override in overrides)
            if all(key in (*NAMED_GROUPS, "seed") or key in SILENT_KEYS for key in told):
                choices = {**plain.hydra.runtime.choices, **{key: told[key] for key in NAMED_GROUPS if key in told}}
            else:
                choices = composed(*overrides).hydra.runtime.choices
            name, _ = name_and_settings(
                overrides, choices, told.get("seed", plain.seed), lambda overrides=overrides: composed(*overrides)
            )
            yield name


def name_and_settings(
    overrides: list[str], choices: dict[str, str], seed: int | str, config: Callable[[], DictConfig]
) -> tuple[str, dict[str, str]]:
    """A run's name, and what it sets beyond model, method, bits and seed, as its record has it.

    ``choices`` are those of all groups, ``config`` gives the composed config.
    """

    def changed_value(key: str, typed: str) -> str | None:
        """The value in one spelling; None where the choices imply it anyway."""
        if key in choices:
            named = composed(*(f"{group}={choices[group]}" for group in NAMED_GROUPS))
            return None if named.hydra.runtime.choices[key] == typed else typed
        chosen = composed(*(f"{group}={choices[group]}" for group in GROUPS))
        try:
            if OmegaConf.select(chosen, key) == OmegaConf.select(config(), key):
                return None
        except OmegaConfBaseException:  # refers to a value that only this command line gives
            pass
        return spelling(config(), key)

    settings = other_settings(overrides, changed_value)
    return run_name(choices, settings, seed), settings


def check_data_of(arguments: list[str]) -> None:
    """Raise ZeroQError where the data of a run are not where they should be: once, and before the first run."""
    # PyTorch takes seconds to import.
    from experiments.core.config import DataConfig
    from experiments.core.sources import check_data

    combinations = planned(arguments, only=("model", "method", "data"))
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = [composed(*overrides) for overrides in combinations]
    for config in chosen:
        if OmegaConf.is_missing(config.data, "root"):
            raise ZeroQError("data.root is missing; give the folder of your copy of the data, data.root=…")
        data = DataConfig(config.data.name, Path(str(config.data.root)))
        check_data(data)
        if config.method.images == "real":
            check_data(data, train=True)


def of_experiment(overrides: list[str]) -> list[str]:
    """Those overrides that say which runs an experiment has."""
    return [each for each in overrides if partitioned(each)[0] in ("experiment", *OF_EXPERIMENTS)]
