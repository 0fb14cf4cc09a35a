"""What tests of the command line share; its fixtures are in conftest."""

from pathlib import Path

COUNT = ["distill.count=2"]
QUICK = ["distill.iterations=2", *COUNT]


def quick(method: str) -> list[str]:
    """What makes a method's images in no time; a setting of images that it has not is refused."""
    return QUICK if method.startswith("zeroq") else [] if method in ("dfq", "naive") else COUNT


def only_runs(outputs: Path) -> set[str]:
    runs = outputs / "runs"
    return {path.name for path in runs.iterdir()} if runs.exists() else set()
