"""Exported files: what they score, how large and how fast they are."""

import pandas

from experiments.analysis.cell import NONE, Cell, Table, frame_of, without_empty_settings
from experiments.analysis.columns import column_and_settings
from experiments.analysis.labels import bits_label, bits_order, settings_label
from experiments.core.record import formatted

ORDER = 40
NOTES = (
    "Simulated: this project's quantized network in PyTorch; deployed: the exported file in onnxruntime, on the same "
    "test set; agreement: images to which both give the same class.",
    "MiB are of the whole file = packed weights + biases and scales + the graph itself. By the plan: what the weights "
    "would take if 3 bits were not stored in types of 4, and 5 to 7 in types of 8. Paper's size: parameters × bits, as "
    "everywhere else.",
    "Integer convolutions: those that onnxruntime runs as QLinearConv, of all; one that is called several times counts "
    "each time. What gives the network's output runs in float.",
    "ms: median for one image, FP32 / quantized, in turns in one process; ×: median of each turn's ratio.",
)


def tables(records: list[dict]) -> dict[str, Table]:
    """One table, where a run was exported."""
    frame = without_empty_settings(deployment_table(records))
    return {} if frame.empty else {"deployment": Table("Exported files", frame, NOTES)}


def deployment_table(records: list[dict]) -> pandas.DataFrame:
    """One row an exported run: what the file scores, how large and how fast it is."""
    rows = []
    for record in sorted(filter(is_deployed, records), key=row_order):
        deployment, metric = record["deployment"], record["metric"]
        title, settings = column_and_settings(record)
        size = f"{record['deployed_mib']:.2f} = {deployment['weights_mib']:.2f} + {deployment['parameters_mib']:.2f} + "
        row = {
            "Network": record["model"],
            "Bits": bits_label(record),
            "Method": title,
            "Placement": record["placement"],
            "Settings": settings_label(settings),
            "FP32": formatted(record["fp32_value"], metric),
            "Simulated": formatted(deployment["simulated_value"], metric),
            "Deployed": formatted(record["deployed_value"], metric),
            "Agreement (%)": NONE if deployment["agreement"] is None else f"{100 * deployment['agreement']:.2f}",
            "MiB": size + f"{deployment['graph_mib']:.2f}",
            "Weights by the plan": f"{deployment['planned_weights_mib']:.2f}",
            "Paper's size": f"{record['size_mib']:.2f}",
            "Integer convolutions": f"{deployment['integer_convolutions']} of {deployment['convolutions']}",
        }
        for threads, times in deployment["latency_ms"].items():
            words = "1 thread" if threads == "1 threads" else threads
            row[f"ms, {words}"] = f"{times['fp32']:.2f} / {times['quantized']:.2f} ({times['speedup']:.2f} ×)"
        rows.append({title: Cell(text, [record["run"]]) for title, text in row.items()})
    return frame_of(rows).fillna(NONE)


def is_deployed(record: dict) -> bool:
    """Whether a record's network was exported."""
    return "deployment" in record


def row_order(record: dict) -> tuple:
    """By network, bits and placement."""
    return record["model"], bits_order(bits_label(record)), record["placement"], record["run"]
