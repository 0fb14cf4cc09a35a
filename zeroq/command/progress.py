"""What is being done: a bar for each stage on a terminal, a line for each elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from zeroq.stages import Stage

WORDS = {
    "distill": "distil images",
    "sensitivity": "measure sensitivities",
    "activation_sensitivity": "and of activations",
    "allocate": "choose bits",
    "calibrate": "round and calibrate",
}


class ShownStages:
    """Runs stages as ``RunStage`` does, and shows them; ``seconds`` is what each took."""

    def __init__(self, console: Console):
        self.console = console
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: Stage) -> Any:
        with self.shown(WORDS.get(stage.name, stage.name)) as progress:
            return stage.compute(progress)

    @contextmanager
    def shown(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Around work of this name, which calls what it is given with (done, total)."""
        columns = (TextColumn("{task.description:>24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        started = time.perf_counter()
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as bars:
            task = bars.add_task(name, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
            bars.update(task, completed=bars.tasks[0].total or 1, total=bars.tasks[0].total or 1)
        self.seconds[name] = time.perf_counter() - started
        if not self.console.is_terminal:
            self.console.print(f"{name}: {self.seconds[name]:.1f} s", highlight=False)
