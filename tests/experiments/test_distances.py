"""The command that says how far images are from real ones."""

import sys
from statistics import median

import matplotlib.pyplot as plt
import pandas
import pytest
from PIL import Image

from experiments import distances
from experiments.analysis.image_distances import FIGURE, KINDS, draw, read_rows, table
from experiments.analysis.style import STYLE, save
from tests.paths import RESULTS
from zeroq.networks import zoo


@pytest.fixture
def run(monkeypatch, tmp_path, few_images):
    for name, number in (("COUNT", 4), ("REFERENCE", 40), ("ITERATIONS", 2)):
        monkeypatch.setattr(distances, name, number)

    def call(*words: str):
        monkeypatch.setattr(sys, "argv", ["distances", f"results={tmp_path}", *words])
        try:
            distances.main()
        except SystemExit as ended:
            return ended.code
        return tmp_path / "distances"

    return call


def test_a_network_has_a_line_a_row_and_a_panel(run):
    folder = run("networks=fashion/resnet18")
    (row,) = read_rows(folder)
    norms = [name for name, _ in zoo.load("resnet18").module.named_modules() if name.endswith("bn")]
    assert row["layers"] == norms
    assert {kind: len(found) for kind, found in row["distances"].items()} == dict.fromkeys(KINDS, len(norms))
    middle = {kind: median(found) for kind, found in row["distances"].items()}
    assert middle["Real data*"] == min(middle.values())
    written = pandas.read_csv(folder / "table.csv")
    assert list(written["Network"]) == ["fashion/resnet18"]
    with Image.open(folder / "by_layer.png") as image:
        assert image.width > 200
    before = (folder / "rows.jsonl").read_bytes()
    run("networks=fashion/resnet18")
    assert (folder / "rows.jsonl").read_bytes() == before


def test_what_is_wrong_is_one_sentence(run, tmp_path):
    assert "fashion/resnet19" in run("networks=fashion/resnet19")
    (tmp_path / "distances").mkdir(exist_ok=True)
    (tmp_path / "distances" / "rows.jsonl").write_text("{\n")
    assert "is damaged" in run("networks=fashion/resnet18")


def test_the_committed_table_and_figure_are_those_of_the_rows(tmp_path):
    rows = read_rows(RESULTS / "distances")
    for suffix, text in ((".md", table(rows).markdown()), (".tex", table(rows).latex()), (".csv", table(rows).csv())):
        assert (RESULTS / "distances" / "table").with_suffix(suffix).read_text() == text
    with plt.rc_context(STYLE):
        save(draw(rows), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (RESULTS / "distances" / FIGURE).read_bytes()
