"""What one setting is worth: the score at each of its values, with all else as it is by default."""

import json
from collections import defaultdict
from typing import Any

import hydra
import pandas

from experiments.ablation import is_ablation
from experiments.arguments import CONF
from experiments.labels import GRANULARITIES, SHOWN, bits_label, bits_order, column_and_settings, column_order
from experiments.record import spelling
from experiments.table import frame_of, mean_cell

# Settings that make it another network or another test set.
OTHER_NETWORK = ("model.", "data")
SUBJECT = ("Network", "Placement", "Weights", "Method", "Setting")
Subject = tuple[str, str, str, str, str]


def separated(records: list[dict]) -> tuple[list[dict], list[dict]]:
    """Records that methods are compared by, and those with one setting that no other method was run with."""
    methods = defaultdict(set)
    for record in records:
        methods[circumstances(record)].add(column_and_settings(record)[0])
    compared, swept = [], []
    for record in records:
        alone = swept_setting(record) and len(methods[circumstances(record)]) == 1
        (swept if alone else compared).append(record)
    return compared, swept


def circumstances(record: dict) -> tuple:
    """What methods share that are compared with each other."""
    return record["model"], record["placement"], record["granularity"], *sorted(other_settings(record).items())


def other_settings(record: dict) -> dict[str, str]:
    """What a record sets beyond what every table shows."""
    return {key: value for key, value in column_and_settings(record)[1].items() if key not in SHOWN}


def swept_setting(record: dict) -> str | None:
    """The one setting that a record may be from a sweep over; None for DFQ's steps, which have a table of their own."""
    if is_ablation(record):
        return None
    key, *more = other_settings(record) or [None]
    # A recipe with a name is a method more than a value.
    return None if more or key is None or key == "distill" or key.startswith(OTHER_NETWORK) else key


def sweeps(records: list[dict]) -> dict[Subject, pandas.DataFrame]:
    """The records of each sweep over one setting, by its values.

    To each are added the value as ``level``, ``bits``, and whether it is the ``default``; with the default stand the
    records of the same seeds and bits that set nothing.
    """
    groups = defaultdict(list)
    for record in separated(records)[1]:
        groups[subject(record, swept_setting(record))].append(record)
    found = {}
    for key, runs in sorted(groups.items(), key=lambda group: (group[0][:3], column_order(group[0][3]), group[0][4])):
        setting = key[-1]
        seeds_and_bits = {(record["seed"], bits_label(record)) for record in runs}
        plain = [
            {**record, "settings": {setting: default_value(setting, record["method"])}, "default": True}
            for record in records
            if subject(record, setting) == key
            and not other_settings(record)
            and (record["seed"], bits_label(record)) in seeds_and_bits
        ]
        rows = [
            {"default": False, **record, "level": record["settings"][setting], "bits": bits_label(record)}
            for record in plain + runs
        ]
        found[key] = pandas.DataFrame(sorted(rows, key=lambda row: level_order(row["level"])))
    return found


def subject(record: dict, setting: str) -> Subject:
    """What a sweep is about: network, placement, granularity, method and setting."""
    column, _ = column_and_settings(record)
    return record["model"], record["placement"], GRANULARITIES[record["granularity"]], column, setting


def default_value(setting: str, method: str) -> str:
    """What a setting is where nothing was said, as records spell it."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return spelling(hydra.compose("config", [f"method={method}"]), setting)


def level_order(level: str) -> tuple[int, Any]:
    """Numbers by size, lists by length, words by the alphabet, and nothing behind."""
    try:
        value = json.loads(level)
    except ValueError:
        return 2, level
    if isinstance(value, list):
        return 1, (len(value), level)
    return (3, 0) if value is None else (0, value)


def sweep_table(records: list[dict]) -> pandas.DataFrame:
    """One row a value of a setting, one column a setting of bits."""
    found = sweeps(records)
    widths = sorted({bits for runs in found.values() for bits in runs.bits}, key=bits_order)
    rows = []
    for key, runs in found.items():
        for level, same in runs.groupby("level", sort=False):
            row = dict(zip(SUBJECT, key, strict=True))
            row["Value"] = f"{level} (default)" if same.default.any() else level
            rows.append(row | {bits: mean_cell(same[same.bits == bits]) for bits in widths})
    return frame_of(rows)
