"""Other tools beside each other: what is scored and stored, and the table of it."""

import json
from importlib.metadata import version

from experiments.core.record import write_json
from experiments.tools import calibration, comparison
from experiments.tools.comparison import SOURCES, TOOLS, compare, tools_table
from tests.paths import DATA, RESULTS
from zeroq.datasets.fashion_mnist import FashionMNIST

COMMITTED = RESULTS / "other_tools"


def test_the_committed_table_is_that_of_the_committed_scores():
    table = tools_table(COMMITTED)
    assert (COMMITTED / "table.md").read_text() == table.markdown()
    assert (COMMITTED / "table.tex").read_text() == table.latex()
    assert (COMMITTED / "table.csv").read_text() == table.csv()
    assert set(table.frame.Tool) == set(TOOLS.values())


def test_the_table(tmp_path):
    entry = {"network": "fashion/resnet18", "tool": "nncf", "images": "distilled", "fp32_top1": 92.0}
    for seed, top1 in enumerate((91.0, 92.0)):
        (tmp_path / f"{seed}.json").write_text(json.dumps(entry | {"seed": seed, "top1": top1}))
    (row,) = tools_table(tmp_path).frame.to_dict("records")
    assert row == {
        "Network": "fashion/resnet18",
        "Tool": TOOLS["nncf"],
        "FP32": "92.00",
        "Gaussian": "–",
        "Distilled": "91.50 ± 0.71 (2)",
        SOURCES["real"]: "–",
    }


def test_what_is_stored_is_not_scored_again(monkeypatch, tmp_path):
    def few(data, specification):
        test = FashionMNIST(DATA, specification)
        test.images, test.labels = test.images[:8], test.labels[:8]
        return test

    stored = [tmp_path / f"fashion-resnet18,onnxruntime,{source},seed=0.json" for source in ("distilled", "real")]
    for path in stored:
        write_json(path, {"top1": 1.0})
    monkeypatch.setattr(comparison, "FashionMNIST", few)
    monkeypatch.setattr(calibration, "COUNT", 2)
    compare(tmp_path, "fashion/resnet18", 0, ["onnxruntime"], DATA)
    assert [json.loads(path.read_text()) for path in stored] == [{"top1": 1.0}] * 2
    (new,) = (json.loads(path.read_text()) for path in tmp_path.iterdir() if path not in stored)
    assert (new["tool"], new["images"]) == ("onnxruntime", "gaussian")
    assert 0 <= new["top1"] <= 100
    assert new["versions"] == {name: version(name) for name in ("torch", "onnxruntime")}
