"""DFQ step by step, as in the table of its paper: what each step does to the float network and to the quantized one."""

import pandas

from experiments.labels import GRANULARITIES, bits_label, settings_label
from experiments.record import formatted

# Settings that switch a step of DFQ off or change it, with what they are without being set.
STEPS = {
    "method.replace_relu6": ("ReLU for ReLU6", "true"),
    "method.equalize": ("Equalization", "true"),
    "method.absorb": ("Absorption", "true"),
    "method.bias_correction": ("Bias correction", "analytic"),
}
NETWORK = ["Network", "Placement", "Weights"]
WORDS = {"true": "yes", "false": "–", "none": "–"}
FLOAT = "W32/A32"


def is_ablation(record: dict) -> bool:
    """Whether a record is of DFQ with a step switched off or changed, which no other method is compared with."""
    return record["method"] == "dfq" and not STEPS.keys().isdisjoint(record["settings"])


def ablation_table(records: list[dict]) -> pandas.DataFrame:
    """One row a set of steps, for networks that were run without some of them; ``records`` are those of DFQ.

    The float network's score after the steps comes from a record with 32 bits for weights and activations.
    """
    studied = {record["model"] for record in records if is_ablation(record)}
    rows = []
    for record in records:
        settings = record["settings"]
        if record["model"] in studied and not settings_label({k: v for k, v in settings.items() if k not in STEPS}):
            network = dict(zip(NETWORK, [record["model"], record["placement"], record["granularity"]], strict=True))
            steps = {title: settings.get(key, default) for key, (title, default) in STEPS.items()}
            score = formatted(record["value"], record["metric"])
            rows.append({**network, **steps, "bits": bits_label(record), "score": score})
    if not rows:
        return pandas.DataFrame()
    frame = pandas.DataFrame(rows)
    titles = [title for title, _ in STEPS.values()]
    is_float = frame.bits == FLOAT
    scores = frame[~is_float].pivot(index=[*NETWORK, *titles], columns="bits", values="score").reset_index()
    # Corrected biases change nothing where nothing was rounded.
    shared = [*NETWORK, *titles[:-1]]
    floats = frame[is_float].drop_duplicates(shared).set_index(shared).score.rename("FP32 after the steps")
    table = scores.join(floats, on=shared).fillna("–")
    # From no step to all of them.
    table = table.iloc[sorted(table.index, key=lambda row: [*table.loc[row, NETWORK], *sorted_steps(table.loc[row])])]
    table["Weights"] = table["Weights"].map(GRANULARITIES)
    table[titles] = table[titles].replace(WORDS)
    bits = [column for column in table if column not in (*NETWORK, *titles, floats.name)]
    return table[[*NETWORK, *titles, floats.name, *bits]].reset_index(drop=True)


def sorted_steps(row: pandas.Series) -> list[bool]:
    """Whether each step is taken, for sorting."""
    return [row[title] not in ("false", "none") for title, _ in STEPS.values()]
