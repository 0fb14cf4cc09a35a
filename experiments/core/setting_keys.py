"""Which settings a run may have: those of the YAML files in ``conf``, each with the kinds of value it takes.

A record comes from anybody. Its settings are typed again when a run is made again, and so they may only be what a run's
own command line could have said: Hydra's own settings, which can name code to run, are none of them.
"""

import re
from functools import cache
from typing import Any

import yaml

from experiments.core.choices import CONF, EXPERIMENT_KEYS, GROUPS, choices

KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
# What stands for another value when a config is read, and what ends a line or a cell.
NOT_PLAIN = re.compile(r"\$\{|[\x00-\x1f\x7f]")
OF_NO_RUN = ("defaults", "hydra", "experiment", *EXPERIMENT_KEYS)
# Settings whose 99 is 99.0; some are null in every file.
REAL_NUMBERS = ("percentile", "distill.learning_rate", "bits.size_mib", "bits.bops_share", "bits.latency_ms")


def setting_error(key: str, value: str) -> str | None:
    """Why a setting, as records spell it, is none that a run can have; None where it is one."""
    if not KEY.fullmatch(key) or (key not in GROUPS and key not in kinds_of_settings()):
        return f"{key!r} is no setting"
    if NOT_PLAIN.search(value):
        return f"{key} has a value that is not plain, {value!r}"
    if key in GROUPS:
        return None if value in choices(key) else f"{key}={value!r} is no choice"
    kinds = kinds_of_settings()[key]
    if str in kinds or kinds <= {type(None)}:
        return None
    return None if _kind(_read(value)) in {*kinds, type(None)} else f"{key} cannot be {value!r}"


@cache
def kinds_of_settings() -> dict[str, set[type]]:
    """Setting → the kinds of value that the files give it; a whole number counts as a real one."""
    found: dict[str, set[type]] = {key: {float} for key in REAL_NUMBERS}
    contents = [yaml.safe_load((CONF / "config.yaml").read_text())]
    for group in GROUPS:
        for path in (CONF / group).rglob("*.yaml"):
            content = yaml.safe_load(path.read_text()) or {}
            contents.append(content if group in content else {group: content})
    for content in contents:
        for key, value in _flat({key: value for key, value in content.items() if key not in OF_NO_RUN}):
            found.setdefault(key, set()).add(_kind(value))
    return found


def _flat(content: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of nested dictionaries."""
    pairs = []
    for key, value in content.items():
        if key != "defaults":
            pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return pairs


def _kind(value: Any) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _read(value: str) -> Any:
    """A value as YAML reads it; as it is where it is no YAML."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value
