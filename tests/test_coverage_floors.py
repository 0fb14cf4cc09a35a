"""The suite fails where it reaches too little of either package."""

import json
import subprocess
import sys

import pytest

from tests.paths import ROOT


def summary(lines: int, branches: int) -> dict[str, int]:
    """Of a file of a hundred lines and a hundred branches."""
    reached = {"covered_lines": lines, "missing_lines": 100 - lines, "covered_branches": branches}
    return {"summary": {**reached, "num_statements": 100, "num_branches": 100, "percent_covered": 0.5}}


@pytest.mark.parametrize(
    ("library", "programs", "below"),
    [
        ((97, 93), (92, 88), ""),
        ((96, 93), (92, 88), "zeroq's lines"),
        ((100, 92), (100, 87), "zeroq's branches and experiments's branches"),
    ],
)
def test_too_little_of_a_package_fails(library, programs, below, tmp_path):
    files = {"zeroq/a.py": summary(*library), "experiments/b/c.py": summary(*programs)}
    (tmp_path / "report.json").write_text(json.dumps({"files": files}))
    command = [sys.executable, ROOT / "tests" / "coverage_floors.py", tmp_path / "report.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == bool(below)
    assert done.stderr.strip() == (f"error: too few of {below} are reached" if below else "")
