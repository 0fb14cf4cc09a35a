"""The notebook: it runs from top to bottom, and is committed as it ran, small and without traces of a machine."""

import json
import re

import matplotlib
import pytest

from tests.paths import ROOT

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
LARGEST = 300_000  # bytes


def cells(kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == kind]


def test_it_is_committed_as_it_ran():
    run = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in run] == list(range(1, len(run) + 1))
    outputs = [output for cell in run for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    assert {output["name"] for output in outputs if output["output_type"] == "stream"} == {"stdout"}  # no warnings
    assert NOTEBOOK.stat().st_size < LARGEST
    assert not re.search(r"/(home|root|tmp|Users)/", NOTEBOOK.read_text())


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(cells("markdown")))
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    matplotlib.use("Agg")
    names: dict = {}
    for cell in cells("code"):
        exec(cell, names)
    printed = capsys.readouterr().out
    assert "layers in float: none" in printed
    assert names["report"].path.stat().st_size < names["reference"].stat().st_size / 2
    assert (names["expected"] == names["found"]).double().mean() > 0.8
    losses = [float(each) for each in re.findall(r"BatchNorm loss ([\d.]+)", printed)]
    assert losses[1] < losses[0] / 2  # noise, then distilled images
