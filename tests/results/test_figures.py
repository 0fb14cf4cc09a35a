"""The figures in results are what the records say (for the tables, see test_readme)."""

import subprocess
import sys

import pytest

from tests.paths import ROOT

RESULTS = ROOT / "results"


@pytest.mark.slow
def test_deleted_figures_come_back_byte_for_byte(tmp_path):
    (tmp_path / "runs").symlink_to(RESULTS / "runs")
    command = [sys.executable, "-m", "experiments.figures", f"results={tmp_path}"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    committed, again = (
        {path.name: path.read_bytes() for path in (results / "figures").iterdir()} for results in (RESULTS, tmp_path)
    )
    assert again.keys() == committed.keys()
    assert [name for name, content in again.items() if content != committed[name]] == []
