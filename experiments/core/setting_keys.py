"""Which settings a run may have: those of the YAML files in ``conf``, each with the kinds of value it takes.

A record comes from anybody. Its settings are typed again when a run is made again, and so they may only be what a run's
own command line could have said: Hydra's own settings, which can name code to run, are none of them.
"""

import re
from functools import cache
from typing import Any

import yaml

from experiments.core.choices import CONF, GROUPS, SILENT_KEYS, choices

KEY = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
# What stands for another value when a config is read, in any of Hydra's spellings.
NOT_PLAIN = re.compile(r"[$\\]")
# Groups whose choices a record's settings have; its model, method and bits it has beside them.
OWN_GROUPS = ("distill", "data")
# Settings whose 99 is 99.0; some are null in every file.
REAL_NUMBERS = ("percentile", "distill.learning_rate", "bits.size_mib", "bits.bops_share", "bits.latency_ms")


def setting_error(key: str, value: str) -> str | None:
    """Why a setting, as records spell it, is none that a run can have; None where it is one."""
    if not KEY.fullmatch(key) or is_silent(key) or (key not in OWN_GROUPS and key not in kinds_of_settings()):
        return f"{key!r} is no setting"
    if NOT_PLAIN.search(value) or not value.isprintable():
        return f"{key} has a value that is not plain, {value!r}"
    if key in OWN_GROUPS:
        return None if value in choices(key) else f"{key}={value!r} is no choice"
    kinds = kinds_of_settings()[key]
    if str in kinds or kinds <= {type(None)}:
        return None
    return None if _kind(_read(value)) in {*kinds, type(None)} else f"{key} cannot be {value!r}"


def is_silent(key: str) -> bool:
    """Whether a setting does not change a run's result, so that neither name nor record has it."""
    return key in SILENT_KEYS or key.split(".")[0] in SILENT_KEYS


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
        for key, value in _flat(content):
            found.setdefault(key, set()).add(_kind(value))
    found.pop("seed")  # a record has it beside its settings
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
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a day that is none, a number too long
        return value
