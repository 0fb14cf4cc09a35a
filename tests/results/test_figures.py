"""The figures in results are what the records say (for the tables, see test_documents)."""

import subprocess
import sys

import pytest

from tests.paths import RESULTS, ROOT


@pytest.mark.slow
def test_deleted_figures_come_back_byte_for_byte(tmp_path):
    for name in ("runs", "stages", "pictures", "networks.json"):
        (tmp_path / name).symlink_to(RESULTS / name)
    command = [sys.executable, "-m", "experiments.figures", f"results={tmp_path}"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    folders = (RESULTS / "figures", tmp_path / "figures")
    committed, again = ({path.name: path.read_bytes() for path in folder.glob("*.png")} for folder in folders)
    assert again.keys() == committed.keys()
    assert [name for name, content in again.items() if content != committed[name]] == []
