"""What each placement of activation quantizers costs."""

from collections import defaultdict
from statistics import mean

import pandas

from experiments.analysis.cell import Cell, Table, frame_of
from experiments.analysis.columns import column_and_settings
from experiments.analysis.labels import bits_label, bits_order, scores_label
from experiments.core.record import formatted

ORDER = 50
PLACEMENTS = {"layer_inputs": "Layer inputs", "after_relu": "After ReLU", "integer": "Integer"}
NOTES = (
    "Layer inputs and After ReLU with asymmetric weights, Integer with symmetric ones, which integer kernels need.",
)


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where a network was run with every placement."""
    frame = placement_table(records)
    if frame.empty:
        return {}
    title = f"Placements of activation quantizers. {scores_label(record['metric'] for record in records)}"
    return {"placements": Table(title, frame, NOTES)}


def placement_table(records: list[dict]) -> pandas.DataFrame:
    """One row for each network and bit setting that was run with every placement: means over the same seeds."""
    groups = defaultdict(lambda: defaultdict(dict))
    for record in records:
        title, settings = column_and_settings(record)
        key = (record["model"], bits_label(record), title, tuple(settings.items()), record["granularity"])
        groups[key][record["placement"]][record["seed"]] = record
    rows = []
    for key in sorted(groups, key=lambda key: (key[0], bits_order(key[1]), *map(str, key[2:]))):
        placed = groups[key]
        if placed.keys() != PLACEMENTS.keys():
            continue
        seeds = set.intersection(*(set(by_seed) for by_seed in placed.values()))
        if not seeds:
            continue
        one = next(iter(placed["integer"].values()))
        row = {"Network": key[0], "Bits": key[1], "Method": key[2], "Seeds": str(len(seeds))}
        row["FP32"] = formatted(one["fp32_value"], one["metric"])
        for placement, words in PLACEMENTS.items():
            same = [placed[placement][seed] for seed in sorted(seeds)]
            value = formatted(mean(record["value"] for record in same), one["metric"])
            row[words] = Cell(value, [record["run"] for record in same])
        rows.append(row)
    return frame_of(rows)
