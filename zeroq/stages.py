"""A stage of quantization, and who runs it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Stage:
    """A stage's work.

    ``compute`` does it and calls its argument with (done, total). ``inputs`` is all that the result depends on beside
    the library, the device and PyTorch: networks, tensors, plain values and a caller's own ``output``; None where it
    takes no time worth keeping.
    ``pack`` turns a result into tensors, numbers, strings, lists and dicts, ``unpack`` turns those into the result.
    """

    name: str
    compute: Callable[[Progress], Any]
    inputs: Mapping[str, Any] | None = None
    pack: Callable[[Any], Any] = lambda result: result
    unpack: Callable[[Any], Any] = lambda stored: stored


class RunStage(Protocol):
    """Runs one stage. A caller's own can time it, show its progress, or return a stored result."""

    def __call__(self, stage: Stage) -> Any: ...


def run_plainly(stage: Stage) -> Any:
    """Run a stage and nothing else."""
    return stage.compute(lambda done, total: None)


def timed(run_stage: RunStage, spent: dict[str, float]) -> RunStage:
    """Runs stages as another does, and notes the seconds that each took."""

    def run(stage: Stage) -> Any:
        start = time.perf_counter()
        found = run_stage(stage)
        spent[stage.name] = time.perf_counter() - start
        return found

    return run
