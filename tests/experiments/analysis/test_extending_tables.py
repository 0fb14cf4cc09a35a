"""A new table is one file, and a method needs no row to be tabulated and plotted."""

import io
import json
import shutil
import subprocess
import sys

import numpy
import pandas
import pytest
from PIL import Image

from experiments.analysis.collection import from_folders
from experiments.analysis.figures import figures
from experiments.analysis.figures.images import pictures_of
from experiments.analysis.tables import tables
from tests.experiments.analysis.records import whole, without_run
from tests.paths import ROOT

BITS = {"8": 8, "6": 6, "4": 8}  # of weights → of activations
TABLE = '''"""How many runs each network has."""

import pandas

from experiments.analysis.cell import Table

ORDER = 5


def tables(records: list[dict]) -> dict[str, Table]:
    """One table."""
    counts = pandas.Series([record["model"] for record in records]).value_counts()
    frame = pandas.DataFrame({"Network": counts.index, "Runs": counts.astype(str).to_numpy()})
    return {"run_counts": Table("Runs of each network", frame, printed=True)}
'''


@pytest.fixture
def outputs(tmp_path):
    """A folder with runs of ZeroQ and of a method that no row is about, with its images."""
    for method in ("zeroq", "mine"):
        for bits, activation in BITS.items():
            run = f"fashion-resnet18,{method},w{bits}a{activation},seed=0"
            numbers = {"value": 80.0 + int(bits), "size_mib": int(bits) / 8}
            record = whole(run, method=method, w_bits=bits, a_bits=activation, **numbers)
            folder = tmp_path / "outputs" / "runs" / run
            folder.mkdir(parents=True)
            (folder / "record.json").write_text(json.dumps(without_run(record)))
            if method == "mine":
                Image.fromarray(numpy.eye(8, dtype=numpy.uint8) * 255).save(folder / "calibration.png")
    return tmp_path / "outputs"


def test_a_table_in_a_new_file_is_written_and_nothing_else_changes(outputs, tmp_path):
    before = tables(from_folders(outputs=outputs))
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "experiments", copy / "experiments", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("zeroq", "conf"):
        (copy / name).symlink_to(ROOT / name)
    (copy / "experiments" / "analysis" / "tables" / "run_counts.py").write_text(TABLE)
    command = [sys.executable, "-m", "experiments.tables", f"outputs={outputs}"]
    printed = subprocess.run(command, check=True, cwd=copy, capture_output=True, text=True).stdout
    # Its order puts it before all others.
    assert printed.startswith("\n**Runs of each network**\n")
    assert (outputs / "tables" / "run_counts.csv").read_text() == "Network,Runs\nfashion/resnet18,6\n"
    assert {path.stem for path in (outputs / "tables").glob("[!.]*")} == {"run_counts", *before}
    for name, table in before.items():
        assert (outputs / "tables" / f"{name}.md").read_text() == table.markdown()


def test_a_method_without_a_row_is_tabulated(outputs):
    frame = tables(from_folders(outputs=outputs))["top1-fashion-mnist"].frame
    assert list(frame.columns)[-2:] == ["ZeroQ", "mine"]
    assert list(frame["mine"]) == ["88.00", "86.00", "84.00"]


def test_a_method_without_a_row_is_plotted(outputs):
    collection = from_folders(outputs=outputs)
    drawn = {words: draw for words, draw in figures(collection) if words[-1] in ("scores", "images")}
    scores = drawn["fashion/resnet18", "scores"]().axes[0]
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["ZeroQ", "mine"]
    (images,) = drawn["fashion/resnet18", "images"]().axes
    assert images.get_title() == "mine"
    own = [record | {"column": "mine"} for record in collection.records if record["method"] == "mine"]
    assert Image.open(io.BytesIO(pictures_of(own, collection)["mine"])).size == (8, 8)


def test_the_images_of_a_method_without_a_row_have_their_loss_drawn_where_they_are_distilled(outputs):
    folder = outputs / "runs" / "fashion-resnet18,mine,w8a8,seed=0"
    record = json.loads((folder / "record.json").read_text()) | {"distill_loss": 2.0, "gaussian_loss": 30.0}
    (folder / "record.json").write_text(json.dumps(record))
    pandas.DataFrame({"loss": [9.0, 4.0, 2.0]}).to_csv(folder / "distill_loss.csv", index_label="iteration")
    drawn = dict(figures(from_folders(outputs=outputs)))
    axes = drawn["fashion/resnet18", "loss"]().axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mine", "Gaussian noise"]
    assert list(axes.lines[0].get_ydata()) == [9.0, 4.0, 2.0]
