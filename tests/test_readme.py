"""The README's Python runs, and its numbers are the committed records'."""

import re
from pathlib import Path

import pandas
import torch

from experiments.record import read_records
from experiments.tables import tables

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_of_the_readme_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 6
    # A smaller input and fewer iterations than the README's, for the sake of time.
    exec(block.replace("(3, 224, 224)", "(3, 64, 64), iterations=5, count=4"), {})
    assert "weight_scale" in "".join(torch.load(tmp_path / "quantized.pt", weights_only=True))


def test_tables_are_those_of_the_records():
    found = tables(read_records(ROOT / "results" / "runs"))
    assert {path.stem for path in (ROOT / "results" / "tables").glob("*.csv")} == found.keys()
    for name, (_, table) in found.items():
        written = pandas.read_csv(ROOT / "results" / "tables" / f"{name}.csv", dtype=str, keep_default_na=False)
        assert written.equals(table)
        assert table.to_markdown(index=False, disable_numparse=True) in README
