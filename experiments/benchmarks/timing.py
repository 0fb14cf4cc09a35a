"""Seconds, memory and the floor of a stage, taken in turns with its reference."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

MIB = 2**20
STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Case:
    """A stage of a network: ``ours`` is timed, and ``reference`` beside it.

    ``aim`` is the largest share of the reference's time that it should take, ``flops`` the least work that it needs.
    ``size`` says on what: images, layers.
    """

    stage: str
    network: str
    size: str
    device: str
    ours: Callable[[], Any]
    reference: Callable[[], Any] | None = None
    reference_name: str = ""
    aim: float | None = None
    flops: float | None = None
    # After every repetition: what else was found, such as the loss of images.
    found: Callable[[Any], dict[str, float]] = lambda result: {}
    warm_up: bool = True


@dataclass
class Timing:
    """What was measured of a case; seconds of every repetition, in order."""

    stage: str
    network: str
    size: str
    device: str
    reference_name: str
    aim: float | None
    seconds: list[float] = field(default_factory=list)
    reference_seconds: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    flops: float | None = None
    floor_seconds: float | None = None
    found: dict[str, list[float]] = field(default_factory=dict)
    reference_found: dict[str, list[float]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from others."""
        return self.stage, self.network, self.size, self.device

    @property
    def ratios(self) -> list[float]:
        """Of each repetition, the share of the reference's time."""
        return [ours / reference for ours, reference in zip(self.seconds, self.reference_seconds, strict=False)]

    def line(self) -> str:
        """The most important numbers, for a terminal."""
        share = f", {median(self.ratios):.2f} × {self.reference_name}" if self.ratios else ""
        return f"{self.stage} {self.network} ({self.size}): {median(self.seconds):.2f} s{share}"


def measured(case: Case, repetitions: int) -> Timing:
    """Time a case and its reference in turns, the reference first."""
    timing = Timing(case.stage, case.network, case.size, case.device, case.reference_name, case.aim, flops=case.flops)
    if case.warm_up:
        for each in filter(None, (case.reference, case.ours)):
            each()
    for _ in range(repetitions):
        if case.reference:
            seconds, result = timed(case.reference, case.device)
            timing.reference_seconds.append(seconds)
            collect(timing.reference_found, case.found(result))
        before = reset_peak(case.device)
        seconds, result = timed(case.ours, case.device)
        timing.seconds.append(seconds)
        peak = peak_mib(case.device) - before
        timing.peak_mib = max(peak, timing.peak_mib or 0.0)
        collect(timing.found, case.found(result))
    if case.flops:
        timing.floor_seconds = case.flops / products_a_second(case.device)
    return timing


def collect(found: dict[str, list[float]], values: dict[str, float]) -> None:
    """Add each value to the list of its name."""
    for name, value in values.items():
        found.setdefault(name, []).append(value)


def timed(function: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Seconds until everything is done, on a GPU too, and the result."""
    wait(device)
    started = time.perf_counter()
    result = function()
    wait(device)
    return time.perf_counter() - started, result


def wait(device: str) -> None:
    """Until a GPU has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def reset_peak(device: str) -> float:
    """MiB in use; the peak counts from here on."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / MIB
    with suppress(OSError):  # only Linux has it
        PEAK_RESET.write_text("5")
    return _status("VmRSS")


def peak_mib(device: str) -> float:
    """The most MiB in use since ``reset_peak``."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / MIB
    return _status("VmHWM")


def _status(key: str) -> float:
    if not STATUS.exists():
        return float("nan")
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) / 1024


def products_a_second(device: str, side: int = 2048, repetitions: int = 5) -> float:
    """Floating-point operations a second of large float32 matrix products: the best of several."""
    one, other = (torch.randn(side, side, device=device) for _ in range(2))
    best = min(timed(lambda: one @ other, device)[0] for _ in range(repetitions + 1))
    return 2 * side**3 / best
