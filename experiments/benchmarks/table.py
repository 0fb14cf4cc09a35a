"""What was measured, kept as JSON, and as one table."""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch

from experiments.analysis.cell import NONE, Table, frame_of
from experiments.benchmarks.cases import COUNT, PAPER
from experiments.benchmarks.timing import Timing, products_a_second
from zeroq.whole import write_whole

NOT_MEASURED = "not measured"
FEET = (
    "Seconds and ratios: median (smallest to largest). A stage and its reference took turns; a ratio is of one turn. "
    "Aim: the largest ratio that it should have.",
    "Floor: the time that the convolutions alone would take at the speed of large float32 matrix products on the same "
    "machine. What is in bfloat16 may be below it.",
)


def machine(device: str) -> dict[str, str | float]:
    """What the numbers are of."""
    found: dict[str, str | float] = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "GFLOP/s": round(products_a_second(device) / 1e9, 1),
    }
    if device.startswith("cuda"):
        found["GPU"] = torch.cuda.get_device_name(device)
    return found


def processor() -> str:
    """The processor's name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


class Benchmarks:
    """The timings in a folder: one JSON file a kind of device, one table of all."""

    def __init__(self, folder: Path, machine: dict[str, str | float]):
        self.folder, self.machine = folder, machine

    def add(self, timing: Timing) -> None:
        """Put a timing in its place, and write the table again."""
        path = self.folder / f"{timing.device.partition(':')[0]}.json"
        known = [Timing(**each) for each in json.loads(path.read_text())["timings"]] if path.exists() else []
        kept = [each for each in known if each.key != timing.key]
        content = {"machine": self.machine, "timings": [asdict(each) for each in [*kept, timing]]}
        write_whole(path, json.dumps(content, indent=1) + "\n")
        self.write_table()

    def write_table(self) -> None:
        """``table.md``, ``.tex`` and ``.csv``, from what is in the folder."""
        found = {path.stem: json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))}
        timings = [Timing(**each) for content in found.values() for each in content["timings"]]
        machines = {device: ", ".join(f"{k} {v}" for k, v in each["machine"].items()) for device, each in found.items()}
        rows = [row(timing) for timing in sorted(timings, key=lambda timing: timing.key)]
        if "cuda" not in found:
            rows += [missing(network) for network in PAPER]
        notes = (*FEET, *(f"{device}: {words}." for device, words in machines.items()))
        Table("Seconds of each stage beside its reference", frame_of(rows), notes).write(self.folder / "table")


def row(timing: Timing) -> dict[str, str]:
    """A timing as a row."""
    floor = timing.floor_seconds
    found = [f"{name} {spread(values)}" for name, values in timing.found.items()]
    found += [f"{timing.reference_name}'s {name} {spread(values)}" for name, values in timing.reference_found.items()]
    return {
        "Stage": timing.stage,
        "Network": timing.network,
        "Of": timing.size,
        "Device": timing.device,
        "Seconds": spread(timing.seconds),
        "Reference": timing.reference_name or NONE,
        "Its seconds": spread(timing.reference_seconds),
        "Ratio": spread(timing.ratios),
        "Aim": f"{timing.aim:g}" if timing.aim else NONE,
        "MiB": f"{timing.peak_mib:.0f}" if timing.peak_mib is not None else NONE,
        "Floor (s)": digits(floor) if floor else NONE,
        "Times the floor": f"{median(timing.seconds) / floor:.1f}" if floor else NONE,
        "Also": "; ".join(found) or NONE,
    }


def missing(network: str) -> dict[str, str]:
    """A row for what wants a GPU."""
    words = dict.fromkeys(row(Timing("", "", "", "", "", None, [0.0])), NONE)
    what = {"Stage": "all", "Network": network, "Of": f"{COUNT} images of 224 × 224", "Device": "cuda"}
    return words | what | {"Seconds": NOT_MEASURED}


def spread(values: list[float]) -> str:
    """The median, with the smallest and the largest."""
    if not values:
        return NONE
    return f"{digits(median(values))} ({digits(min(values))} to {digits(max(values))})"


def digits(value: float) -> str:
    """Three digits that count."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
