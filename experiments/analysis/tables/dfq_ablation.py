"""DFQ step by step, as in the table of its paper: what each step does to the float network and to the quantized one."""

import pandas

from experiments.analysis.cell import Table, frame_of, mean_cell
from experiments.analysis.labels import GRANULARITIES, bits_label, bits_order, scores_label
from experiments.analysis.selection import ABLATED, STEPS, has_only_steps, is_ablation

ORDER = 20
# What a row is about, before its steps.
SUBJECT = {"model": "Network", "placement": "Placement", "granularity": "Weights", "method": "Method"}
TITLES = [title for title, _ in STEPS.values()]
OFF = ("false", "none")
WORDS = {"true": "yes"} | dict.fromkeys(OFF, "no")
FLOAT = "W32/A32"
NOTES = (
    "FP32 after the steps: the float network once the steps changed its weights. – stands where nothing was measured.",
)


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where a network was run without some of the steps."""
    frame = ablation_table(records)
    if frame.empty:
        return {}
    title = f"DFQ step by step. {scores_label(record['metric'] for record in records)}"
    return {"dfq_ablation": Table(title, frame, NOTES, printed=True)}


def ablation_table(records: list[dict]) -> pandas.DataFrame:
    """One row a set of steps, for networks, granularities and methods that were run without some of them.

    The float network's score after the steps comes from a record with 32 bits for weights and activations.
    """
    studied = {subject(record) for record in records if is_ablation(record)}
    frame = pandas.DataFrame([each for each in records if subject(each) in studied and has_only_steps(each)])
    if frame.empty:
        return frame
    frame["bits"] = [bits_label(record) for record in frame.to_dict("records")]
    for key, (title, default) in STEPS.items():
        frame[title] = [settings.get(key, default) for settings in frame.settings]
    is_float = frame.bits == FLOAT
    widths = sorted(set(frame.bits[~is_float]), key=bits_order)
    # Where nothing was rounded, corrected biases, images and their seed change nothing.
    shared = [name for name in (*SUBJECT, *TITLES) if name not in ("method", TITLES[-1])]
    rows, alone = [], is_float
    for key, group in frame[~is_float].groupby([*SUBJECT, *TITLES]):
        row = dict(zip([*SUBJECT, *TITLES], key, strict=True))
        same = is_float & (frame[shared] == pandas.Series({name: row[name] for name in shared})).all(axis=1)
        alone = alone & ~same
        row["FP32 after the steps"] = mean_cell(frame[same].head(1))
        rows.append(row | {bits: mean_cell(group[group.bits == bits]) for bits in widths})
    for key, group in frame[alone].groupby([*SUBJECT, *TITLES]):
        row = dict(zip([*SUBJECT, *TITLES], key, strict=True)) | {"FP32 after the steps": mean_cell(group.head(1))}
        rows.append(row | dict.fromkeys(widths, mean_cell(group.head(0))))
    # From no step to all of them.
    rows.sort(key=lambda row: [*(row[name] for name in SUBJECT), *(row[title] not in OFF for title in TITLES)])
    table = frame_of(rows).rename(columns=SUBJECT)
    words = {"Weights": GRANULARITIES, "Method": ABLATED, **dict.fromkeys(TITLES, WORDS)}
    return table.replace(words)


def subject(record: dict) -> tuple[str, ...]:
    """What a record's row is about."""
    return tuple(record[key] for key in SUBJECT)
