"""DFQ step by step, as in the table of its paper: what each step does to the float network and to the quantized one."""

import pandas

from experiments.comparable import check_each_run_once, check_same_origin
from experiments.labels import GRANULARITIES, averaged, bits_label, settings_label
from experiments.record import formatted

# Settings that switch a step of DFQ off or change it, with what they are without being set.
STEPS = {
    "method.replace_relu6": ("ReLU for ReLU6", "true"),
    "method.equalize": ("Equalization", "true"),
    "method.absorb": ("Absorption", "true"),
    "method.bias_correction": ("Bias correction", "analytic"),
}
METHODS = {"dfq": "DFQ", "zeroq+dfq": "ZeroQ + DFQ"}
# What a row is about, before its steps.
SUBJECT = {"model": "Network", "placement": "Placement", "granularity": "Weights", "method": "Method"}
WORDS = {"true": "yes", "false": "–", "none": "–"}
FLOAT = "W32/A32"


def is_ablation(record: dict) -> bool:
    """Whether a record is of DFQ with a step switched off or changed, which no other method is compared with."""
    return record["method"] in METHODS and not STEPS.keys().isdisjoint(record["settings"])


def ablation_table(records: list[dict]) -> pandas.DataFrame:
    """One row a set of steps, for networks, granularities and methods that were run without some of them.

    The float network's score after the steps comes from a record with 32 bits for weights and activations. Raises
    ZeroQError where the records of one network stem from different weights or test sets, and for two of the same run.
    """
    studied = {subject(record) for record in records if is_ablation(record)}
    frame = pandas.DataFrame([each for each in records if subject(each) in studied and has_only_steps(each)])
    if frame.empty:
        return frame
    check_same_origin(frame)
    frame = frame.rename(columns=SUBJECT)
    for key, (title, default) in STEPS.items():
        frame[title] = [settings.get(key, default) for settings in frame.settings]
    frame["bits"] = [bits_label(record) for record in frame.to_dict("records")]
    titles = [title for title, _ in STEPS.values()]
    leading = list(SUBJECT.values())
    rows = [*leading, *titles]
    check_each_run_once(frame, [*rows, "bits"])
    is_float = frame.bits == FLOAT
    cells = {
        key: averaged(group.value, group.metric.iloc[0]) for key, group in frame[~is_float].groupby([*rows, "bits"])
    }
    scores = pandas.Series(cells).rename_axis([*rows, "bits"]).unstack("bits")
    # Where nothing was rounded, corrected biases, images and their seed change nothing.
    floats = frame[is_float].drop_duplicates(shared := [*leading[:-1], *titles[:-1]]).set_index(shared)
    kept = [formatted(value, metric) for value, metric in zip(floats.value, floats.metric, strict=True)]
    kept = pandas.Series(kept, floats.index, dtype=str, name="FP32 after the steps")
    table = scores.reset_index().join(kept, on=shared).fillna("–")
    # From no step to all of them.
    order = sorted(table.index, key=lambda row: [*table.loc[row, leading], *sorted_steps(table.loc[row])])
    table = table.loc[order, [*rows, kept.name, *scores.columns]].reset_index(drop=True)
    table["Weights"], table["Method"] = table["Weights"].map(GRANULARITIES), table["Method"].map(METHODS)
    table[titles] = table[titles].replace(WORDS)
    return table


def subject(record: dict) -> tuple[str, ...]:
    """What a record's row is about."""
    return tuple(record[key] for key in SUBJECT)


def has_only_steps(record: dict) -> bool:
    """Whether DFQ's steps are all that was set."""
    return not settings_label({key: value for key, value in record["settings"].items() if key not in STEPS})


def sorted_steps(row: pandas.Series) -> list[bool]:
    """Whether each step is taken, for sorting."""
    return [row[title] not in ("false", "none") for title, _ in STEPS.values()]
