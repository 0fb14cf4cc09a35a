"""Export the quantized network of a run to ONNX, score the file in onnxruntime, and add what was found to the record.

    python -m experiments.export run=outputs/runs/NAME [data.root=FOLDER] [file=NAME.onnx]
    python -m experiments.export run=NAME

A NAME alone may be a committed run's: it is unpacked into outputs/runs, and ``experiments.collect`` brings it back. The
run's stages are done again, or taken from outputs/cache, since a record holds no weights. The file lies in the run's
folder as quantized.onnx unless ``file`` says otherwise.
"""

import sys
from pathlib import Path

from experiments.core.collecting import folder_of
from experiments.core.deployment import export
from experiments.core.progress import console
from experiments.core.record import Record, formatted
from zeroq.errors import ZeroQError
from zeroq.export.onnx_file import ExportReport

WORDS = ("run", "data.root", "file")


def main() -> None:
    if "--help" in sys.argv[1:] or "-h" in sys.argv[1:]:
        print(__doc__)
        return
    given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    if unknown := [key for key, value in given.items() if key not in WORDS or not value]:
        sys.exit(f"error: unknown argument {unknown[0]!r}; they are {', '.join(f'{word}=…' for word in WORDS)}")
    if "run" not in given:
        sys.exit("error: name the run, run=outputs/runs/NAME, or run=NAME for a committed one")
    try:
        folder = folder_of(given["run"], outputs=Path("outputs"), results=Path("results"))
        file = Path(given.get("file", folder / "quantized.onnx"))
        show(*export(folder, file, given.get("data.root")))
    except ZeroQError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: cannot write to {error.filename or 'the disk'} ({error.strerror})")


def show(record: Record, report: ExportReport) -> None:
    """What the file is, on the console."""
    found, metric = record["deployment"], record["metric"]
    lines = [
        f"{report.path}: {report.file_mib:.2f} MiB (weights {report.weights_mib:.2f}, biases and scales "
        f"{report.parameters_mib:.2f}, graph {report.graph_mib:.2f}; FP32 {record['fp32_size_mib']:.2f})",
        f"{formatted(record['deployed_value'], metric)} {metric} in onnxruntime, "
        f"{formatted(found['simulated_value'], metric)} simulated",
        f"{found['integer_convolutions']} of {found['convolutions']} convolutions run as integers",
    ]
    lines += [
        f"{threads}: {times['quantized']:.2f} ms an image, FP32 {times['fp32']:.2f} ms ({times['speedup']:.2f} ×)"
        for threads, times in found["latency_ms"].items()
    ]
    if wider := report.wider_layers:
        lines.append(
            f"{len(wider)} layers of 2, 3 or 5 to 7 bits are stored in types of 4 and 8: weights would take "
            f"{report.planned_weights_mib:.2f} MiB by the plan"
        )
    lines += [f"{name} runs in float: {reason}" for name, reason in report.float_layers.items()]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    main()
