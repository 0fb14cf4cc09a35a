"""The tables of other tools: what is committed, and what they make of scores."""

import pytest

from experiments.tools.offered import BITS, SOURCES, TOOLS
from experiments.tools.scores import add
from experiments.tools.tables import images_table, scores, widths_table
from tests.paths import RESULTS

COMMITTED = RESULTS / "other_tools"


@pytest.mark.parametrize(("name", "make"), [("table", images_table), ("widths", widths_table)])
def test_the_committed_tables_are_those_of_the_committed_scores(name, make):
    table = make(scores(COMMITTED))
    assert (COMMITTED / f"{name}.md").read_text() == table.markdown()
    assert (COMMITTED / f"{name}.tex").read_text() == table.latex()
    assert (COMMITTED / f"{name}.csv").read_text() == table.csv()


def test_tools_stand_in_one_order():
    frame = scores(COMMITTED)
    shown = list(widths_table(frame).frame.Tool.unique())
    assert shown == [tool.title for tool in TOOLS.values() if tool.title in shown]
    assert set(images_table(frame).frame.Tool) == {tool.title for tool in TOOLS.values() if tool.by_images}


def store(folder, **fields):
    entry = {"network": "fashion/resnet18", "images": "distilled", "bits": "W8/A8", "seed": 0, "fp32_top1": 92.0}
    add(folder, entry | fields)


def test_by_images(tmp_path):
    for seed, top1 in enumerate((91.0, 92.0)):
        store(tmp_path, tool="nncf", seed=seed, top1=top1)
    store(tmp_path, tool="zeroq", top1=90.0)
    store(tmp_path, tool="onnxruntime", top1=10.0, bits="W4/A8")
    (row,) = images_table(scores(tmp_path)).frame.to_dict("records")
    assert row == {
        "Network": "fashion/resnet18",
        "Tool": TOOLS["nncf"].title,
        "FP32": "92.00",
        "Gaussian": "–",
        "Distilled": "91.50 ± 0.71 (2)",
        SOURCES["real"]: "–",
    }


def test_by_width(tmp_path):
    """In the order of the tools; images of the tool's own are a row of their own, noise is none."""
    store(tmp_path, tool="zeroq", top1=90.0, bits="W4/A4")
    store(tmp_path, tool="mct", top1=80.0)
    store(tmp_path, tool="mct", top1=70.0, images="own", bits="W4/A8")
    store(tmp_path, tool="nncf", top1=60.0, images="gaussian")
    store(tmp_path, tool="nncf", top1=50.0, network="imagenet/efficientnet_lite0")
    rows = widths_table(scores(tmp_path)).frame.to_dict("records")
    assert [(row["Tool"], row["Images"], *(row[bits] for bits in BITS)) for row in rows] == [
        ("MCT (GPTQ)", "distilled", "80.00", "–", "–"),
        ("MCT (GPTQ)", "own", "–", "70.00", "–"),
        ("zeroq", "distilled", "–", "–", "90.00"),
    ]
    assert [note.split()[0] for note in widths_table(scores(tmp_path)).notes] == ["Every", "MCT"]
