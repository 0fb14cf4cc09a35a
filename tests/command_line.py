"""What tests of the command line share; its fixtures are in conftest."""

from pathlib import Path

QUICK = ["distill.iterations=2", "distill.count=2"]


def only_runs(outputs: Path) -> set[str]:
    runs = outputs / "runs"
    return {path.name for path in runs.iterdir()} if runs.exists() else set()
