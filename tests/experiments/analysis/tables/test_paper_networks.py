"""The paper's tables: what was measured beside what was reported."""

from tests.experiments.analysis.records import record, tables_of


def test_networks_of_one_name_from_two_libraries_have_tables_of_their_own():
    own = {"dataset": "imagenet", "seed": 0}
    found = tables_of(
        [record(model="imagenet/resnet18", value=71.4, **own), record(model="timm/resnet18", value=69.0, **own)]
    )
    ours, theirs = (found[f"paper-imagenet-{name}"].frame for name in ("resnet18", "timm-resnet18"))
    assert list(ours[(ours.Method == "ZeroQ") & (ours["W-bit"] == "8")].Difference) == ["-0.03"]
    assert list(theirs["Top-1 accuracy (%)"])[1] == "69.00"
    assert "Reported" not in theirs


def test_reported_precision_stands_in_the_unit_of_measured_one():
    coco = {"model": "coco/retinanet_resnet50", "dataset": "coco", "metric": "map", "value": 0.365, "fp32_value": 0.366}
    found = tables_of([record(**coco)])
    frame = found["paper-coco-retinanet_resnet50"].frame
    row = frame[frame.Method == "ZeroQ"].to_dict("records")[0]
    assert (row["Reported"], row["Difference"]) == ("0.364", "+0.001")
    row = found["paper-w8a8"].frame.to_dict("records")[0]
    assert (row["ZeroQ loses"], row["Reported to lose"]) == ("0.001", "0.000")
