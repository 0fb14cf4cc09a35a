"""The README's Python runs, and its numbers are the committed records'."""

import re

import torch
import torchvision

from experiments.analysis.collection import from_folders
from experiments.tables import tables
from tests.paths import RESULTS, ROOT

README = (ROOT / "README.md").read_text()


def test_python_of_the_readme_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    block, _ = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 6
    # A smaller input and fewer iterations than the README's, for the sake of time.
    exec(block.replace("(3, 224, 224)", "(3, 64, 64), iterations=5, count=4"), {})
    assert "weight_scale" in "".join(torch.load(tmp_path / "quantized.pt", weights_only=True))


def test_a_checkpoint_becomes_a_file_in_ten_lines(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    _, block = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    torch.save(torchvision.models.resnet18().state_dict(), "mine.pt")
    smaller = block.replace("224, 224", "64, 64").replace('recipe="fast"', 'recipe="fast", iterations=3, count=4')
    found: dict = {}
    exec(smaller, found)
    assert "MiB, in float: {}" in capsys.readouterr().out
    # A quarter of 42.6 MiB of weights, and half of it for 4 bits on average.
    assert (tmp_path / "quantized.onnx").stat().st_size < 0.16 * (tmp_path / "float.onnx").stat().st_size
    assert [len(each) > 1 for each in found["times"]] == [True, True]


def test_tables_are_those_of_the_records():
    found = tables(from_folders(results=RESULTS))
    assert {path.stem for path in (ROOT / "results" / "tables").iterdir()} == found.keys()
    for name, table in found.items():
        written = ROOT / "results" / "tables" / name
        assert written.with_suffix(".md").read_text() == table.markdown()
        assert written.with_suffix(".tex").read_text() == table.latex()
        assert written.with_suffix(".csv").read_text() == table.frame.to_csv(index=False)
    own = {table.frame.to_markdown(index=False, disable_numparse=True) for table in found.values()}
    shown = re.findall(r"(?m)^\| Network .*(?:\n\|.*)+", README)
    assert len(shown) == 2
    assert own.issuperset(shown)


def test_ratios_are_the_benchmark_s():
    (section,) = re.findall(r"## Speed\n(.*?)\n## ", README, flags=re.DOTALL)
    ratios = re.findall(r"[\d.]+ \([\d.]+ to [\d.]+\)", section.partition("The exact frontier")[0])
    assert len(ratios) == 31
    table = (ROOT / "results" / "benchmarks" / "table.md").read_text()
    assert [ratio for ratio in ratios if ratio not in table] == []
