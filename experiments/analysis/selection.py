"""Which records stand beside each other: those of default settings, those of one sweep, those of DFQ's steps."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import hydra
import pandas
from hydra.errors import ConfigCompositionException, MissingConfigException

from experiments.analysis.columns import COLUMNS, column_and_settings, column_order
from experiments.analysis.labels import (
    GRANULARITIES,
    SHOWN,
    bits_label,
    bits_order,
    extra_settings,
    recipe_label,
    settings_label,
)
from experiments.core.choices import CONF
from experiments.core.record import spelling

# Settings that switch a step of DFQ off or change it, with the step's name and what it is without being set.
STEPS = {
    "method.replace_relu6": ("ReLU for ReLU6", "true"),
    "method.equalize": ("Equalization", "true"),
    "method.absorb": ("Absorption", "true"),
    "method.bias_correction": ("Bias correction", "analytic"),
}
# Method → title, of those that are compared step by step.
ABLATED = {column.method: column.title for column in COLUMNS if column.ablated}
# Settings that make it another network or another test set.
OTHER_NETWORK = ("model.", "data")
# A recipe with a name is a method more than a value, and a budget has another default for each choice of bits.
NO_SWEEP = ("distill", "bits.weight")
# What a default is called that this copy of the repository does not know.
UNKNOWN = "default"
# What the records say whose plans keep another budget than one of size.
PICTURED = 32  # images of a run in figures
OTHER_BUDGETS = {"bops_share", "planned_ms"}


class Subject(NamedTuple):
    """What a sweep is about: the setting that differs, and what does not."""

    network: str
    placement: str
    weights: str
    method: str
    settings: str
    setting: str


def is_ablation(record: dict) -> bool:
    """Whether a record is of DFQ with a step switched off or changed, which no other method is compared with."""
    changed = not STEPS.keys().isdisjoint(record["settings"])
    return record["method"] in ABLATED and changed and has_only_steps(record)


def has_only_steps(record: dict) -> bool:
    """Whether DFQ's steps are all that was set."""
    return extra_settings(record).keys() <= STEPS.keys()


def plain_runs(records: list[dict], besides: Sequence[str] = ()) -> pandas.DataFrame:
    """The runs that set nothing but network, method, bits and seed (or a column's own), with column and bits.

    Settings of which ``besides`` are names may differ too.
    """
    rows = []
    for record in records:
        column, settings = column_and_settings(record)
        changed = settings.keys() | record["settings"].keys() & set(SHOWN)
        if not changed - {"model.name", *besides}:
            rows.append(record | {"column": column, "bits": bits_label(record)})
    return pandas.DataFrame(rows, columns=[*records[0], "column", "bits"])


def compared(records: list[dict]) -> list[dict]:
    """The records that methods are compared by: all but those of a sweep that no other method was run with."""
    methods = defaultdict(set)
    for record in records:
        methods[conditions(record)].add(column_and_settings(record)[0])
    swept = {record["run"] for runs in sweeps(records).values() for record in runs if not record["default"]}
    return [r for r in records if r["run"] not in swept or len(methods[conditions(r)]) > 1]


def conditions(record: dict) -> tuple:
    """What methods share that are compared with each other."""
    _, settings = column_and_settings(record)
    return record["model"], record["placement"], record["granularity"], *sorted(settings.items())


def sweeps(records: list[dict]) -> dict[Subject, list[dict]]:
    """The records of each sweep over one setting, in the order of its values: at least two.

    To each are added the value as ``level``, ``bits``, and whether it is the ``default``; with the default stand the
    records of the same seeds and bits that leave the setting alone. A record may be in several sweeps.
    """
    groups, plain = defaultdict(list), defaultdict(list)
    for record in records:
        _, settings = column_and_settings(record)
        plain[subject(record, settings)].append(record)
        for setting in sweepable(record):
            rest = {key: value for key, value in settings.items() if key != setting}
            groups[subject(record, rest, setting)].append(record)
    by_subject = {}
    for key in sorted(groups, key=lambda key: (*key[:3], column_order(key.method), *key[4:])):
        runs = groups[key]
        seeds_and_bits = {(record["seed"], bits_label(record)) for record in runs}
        beside = [r for r in plain[key._replace(setting="")] if (r["seed"], bits_label(r)) in seeds_and_bits]
        rows = [
            {**record, "level": record["settings"][key.setting], "default": False, "bits": bits_label(record)}
            for record in runs
        ]
        rows += [{**r, "level": default_value(key.setting, r), "default": True, "bits": bits_label(r)} for r in beside]
        if len({row["level"] for row in rows}) > 1:
            by_subject[key] = sorted(rows, key=lambda row: level_order(row["level"]))
    return by_subject


def sweepable(record: dict) -> Iterator[str]:
    """The settings that a record may be from a sweep over; none for DFQ's steps, which have a table of their own."""
    if not is_ablation(record):
        for key in column_and_settings(record)[1]:
            if key not in NO_SWEEP and not key.startswith(OTHER_NETWORK):
                yield key


def subject(record: dict, rest: dict[str, str], setting: str = "") -> Subject:
    """What a sweep over a setting is about, with ``rest`` as its other settings."""
    column, _ = column_and_settings(record)
    weights = GRANULARITIES[record["granularity"]]
    return Subject(record["model"], record["placement"], weights, column, settings_label(rest), setting)


def default_value(setting: str, record: dict) -> str:
    """What a setting is where nothing was said, as records spell it."""
    return _default_value(setting, record["method"], record["settings"].get("distill"))


@cache
def _default_value(setting: str, method: str, recipe: str | None) -> str:
    choices = [f"method={method}", *([f"distill={recipe}"] if recipe else [])]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return spelling(hydra.compose("config", choices), setting)
        except (MissingConfigException, ConfigCompositionException):  # a method or a recipe of another copy's
            return UNKNOWN


def level_order(level: str) -> tuple[int, Any]:
    """Numbers by size, lists by length, words by the alphabet, and nothing behind."""
    try:
        value = json.loads(level)
    except ValueError:
        return 2, level
    if isinstance(value, list):
        return 1, (len(value), level)
    if isinstance(value, int | float):
        return 0, value
    return (3, 0) if value is None else (2, level)


def comparable(records: list[dict], words_of: Callable[[dict], tuple[str, ...]]) -> dict[tuple[str, ...], list[dict]]:
    """Records under the words that name them, each with its ``column``; of a column's seeds, the first."""
    groups: dict[tuple[str, ...], list[dict]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        column, _ = column_and_settings(record)
        group = groups.setdefault(words_of(record), [])
        first = next((other for other in group if other["column"] == column), record)
        if record["seed"] == first["seed"]:
            group.append(record | {"column": column})
    return groups


def recipe_words(record: dict) -> tuple[str, ...]:
    """The network and how its images were made: neither placement nor bits change them."""
    _, settings = column_and_settings(record)
    return tuple(filter(None, [record["model"], recipe_label(settings)]))


def setting_words(record: dict) -> tuple[str, ...]:
    """The network, placement and granularity where they are not the default, and other settings."""
    _, settings = column_and_settings(record)
    placement = "" if record["placement"] == "layer_inputs" else record["placement"]
    granularity = "" if record["granularity"] == "per_channel" else GRANULARITIES[record["granularity"]]
    return tuple(filter(None, [record["model"], placement, granularity, settings_label(settings)]))


def by_recipe(records: list[dict]) -> dict[tuple[str, ...], list[dict]]:
    """The compared records of each network and recipe of its images, of at most ``PICTURED``: more show nothing new."""
    few = [each for each in compared(records) if int(each["settings"].get("distill.count", 0)) <= PICTURED]
    return comparable(few, recipe_words)


def zeroq_by_setting(records: list[dict]) -> dict[tuple[str, ...], list[dict]]:
    """ZeroQ's compared records of each network, placement and setting: of the published recipe where there are any."""
    groups = {}
    for words, group in comparable(compared(records), setting_words).items():
        published = [record for record in group if record["column"] == "ZeroQ"]
        if own := published or [record for record in group if record["method"] == "zeroq"]:
            groups[words] = own
    return groups


def mixed(records: list[dict]) -> list[dict]:
    """Those in mixed precision of a size, the widest first: plans of other budgets are on no frontier of sizes."""
    chosen = [
        record for record in records if str(record["w_bits"]).startswith("MP") and not OTHER_BUDGETS & set(record)
    ]
    return sorted(chosen, key=lambda record: bits_order(bits_label(record)))
