"""Tables of exported files, and of what each placement of activation quantizers costs."""

from collections import defaultdict
from statistics import mean

import pandas

from experiments.analysis.cell import NONE, Cell, frame_of
from experiments.analysis.columns import bits_label, bits_order, column_and_settings
from experiments.core.record import formatted

PLACEMENTS = {"layer_inputs": "Layer inputs", "after_relu": "After ReLU", "integer": "Integer"}
DEPLOYMENT_FEET = (
    "Simulated: this project's quantized network in PyTorch; deployed: the exported file in onnxruntime, on the same "
    "test set; agreement: images to which both give the same class.",
    "MiB are of the whole file = packed weights + biases and scales + the graph itself. By the plan: what the weights "
    "would take if 3 bits were not stored in types of 4, and 5 to 7 in types of 8. Paper's size: parameters × bits, as "
    "everywhere else.",
    "Integer convolutions: those that onnxruntime runs as QLinearConv, of all; one that is called several times counts "
    "each time. What gives the network's output runs in float.",
    "ms: median for one image, FP32 / quantized, in turns in one process; ×: median of each turn's ratio.",
)
PLACEMENT_FEET = (
    "Layer inputs and After ReLU with asymmetric weights, Integer with symmetric ones, which integer kernels need.",
)


def deployment_table(records: list[dict]) -> pandas.DataFrame:
    """One row an exported run: what the file scores, how large and how fast it is."""
    rows = []
    for record in sorted(filter(is_deployed, records), key=row_order):
        found, metric = record["deployment"], record["metric"]
        title, settings = column_and_settings(record)
        size = f"{record['deployed_mib']:.2f} = {found['weights_mib']:.2f} + {found['parameters_mib']:.2f} + "
        row = {
            "Network": record["model"],
            "Bits": bits_label(record),
            "Method": title,
            "Placement": record["placement"],
            "Settings": " ".join(f"{key}={value}" for key, value in settings.items()),
            "FP32": formatted(record["fp32_value"], metric),
            "Simulated": formatted(found["simulated_value"], metric),
            "Deployed": formatted(record["deployed_value"], metric),
            "Agreement (%)": NONE if found["agreement"] is None else f"{100 * found['agreement']:.2f}",
            "MiB": size + f"{found['graph_mib']:.2f}",
            "Weights by the plan": f"{found['planned_weights_mib']:.2f}",
            "Paper's size": f"{record['size_mib']:.2f}",
            "Integer convolutions": f"{found['integer_convolutions']} of {found['convolutions']}",
        }
        for threads, times in found["latency_ms"].items():
            words = "1 thread" if threads == "1 threads" else threads
            row[f"ms, {words}"] = f"{times['fp32']:.2f} / {times['quantized']:.2f} ({times['speedup']:.2f} ×)"
        rows.append({title: Cell(text, [record["run"]]) for title, text in row.items()})
    return frame_of(rows).fillna(NONE)


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


def is_deployed(record: dict) -> bool:
    """Whether a record's network was exported."""
    return "deployment" in record


def row_order(record: dict) -> tuple:
    """By network, bits and placement."""
    return record["model"], bits_order(bits_label(record)), record["placement"], record["run"]
