"""The table of all methods: what may share a row, and what may not."""

import pytest

from experiments.analysis.tables import tables
from experiments.analysis.tables.method_scores import method_table
from tests.experiments.analysis.records import collected, record, tables_of, whole


def test_every_dataset_has_a_table_of_its_own():
    scenes = {"model": "fashion/retinanet", "dataset": "fashion-scenes", "metric": "map"}
    photographs = {"model": "imagenet/resnet18", "dataset": "imagenet"}
    records = [record(), record(**scenes, value=0.5678, fp32_value=0.6), record(**photographs)]
    found = tables_of(records)
    assert list(found)[:3] == ["top1-fashion-mnist", "top1-imagenet", "map-fashion-scenes"]
    table = found["map-fashion-scenes"]
    assert table.title == "Mean average precision (IoU 0.50:0.95), fashion-scenes"
    (row,) = table.frame.to_dict("records")
    assert (row["Network"], row["ZeroQ"], row["FP32"]) == ("fashion/retinanet", "0.568", "0.600")
    losses = tables_of([record(distill_loss=1.0, gaussian_loss=30.0, seconds={"distill": 2.0})])["batch_norm_loss"]
    assert losses.frame.to_dict("records")[0]["Ratio"] == "30.0"


def test_seeds_are_averaged_and_counted():
    (row,) = method_table([record(), record(seed=1, value=91.0), record(method="naive")]).to_dict("records")
    assert row["ZeroQ"] == "90.50 ± 0.71 (2)"
    assert row["Naive"] == "90.00"
    assert "Real data*" not in row
    first, second = method_table([record(), record(w_bits="4", method="real")]).to_dict("records")
    assert (first["Real data*"], second["ZeroQ"]) == ("–", "–")


def test_a_known_recipe_has_a_column_any_other_a_row():
    bounded, other = (record(value=80.0, settings={"distill": recipe}) for recipe in ("bounded", "mine"))
    fast = record(value=85.0, settings={"distill": "fast"})
    first, second = method_table([record(), bounded, fast, other]).to_dict("records")
    assert (first["Settings"], first["ZeroQ"], first["ZeroQ, bounded"]) == ("", "90.00", "80.00")
    assert first["ZeroQ, fast"] == "85.00"
    assert (second["Settings"], second["ZeroQ"], second["ZeroQ, bounded"]) == ("distill=mine", "80.00", "–")


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"percentile": "99.9"}},
        {"settings": {"distill.iterations": "100"}},
        {"placement": "after_relu"},
        {"w_bits": "MP8"},
        {"a_bits": 4},
        {"model": "fashion/mobilenetv2"},
    ],
)
def test_different_settings_never_share_a_row(change):
    table = method_table([record(), record(value=80.0, **change)])
    assert sorted(table["ZeroQ"]) == ["80.00", "90.00"]


def test_a_method_of_one_s_own_has_a_column():
    (row,) = method_table([record(), record(method="mine", value=80.0)]).to_dict("records")
    assert list(row)[-2:] == ["ZeroQ", "mine"]
    assert row["mine"] == "80.00"


def test_a_checkpoint_has_rows_of_its_own():
    other = record(network="2b3c", settings={"model.checkpoint": "mine.pt"})
    assert list(method_table([record(), other]).Settings) == ["", "model.checkpoint=mine.pt"]


def test_methods_of_other_granularity_never_share_a_row():
    table = method_table([record(), record(method="dfq", granularity="per_tensor", settings={})])
    assert list(table.Weights) == ["per channel", "per tensor"]
    both = [record(), record(method="dfq", settings={"method.per_channel": "true"})]
    assert len(method_table(both)) == 1


def test_uniform_comes_before_mixed_and_wide_before_narrow():
    labels = [("MP4", 8), ("4", 4), ("4", 8), ("8", 8), ("MP6", 6)]
    table = method_table([record(w_bits=weight, a_bits=activation) for weight, activation in labels])
    assert list(table["Bits"]) == ["W8/A8", "W4/A8", "W4/A4", "MP6/A6", "MP4/A8"]


def test_budgets_of_one_label_and_methods_of_one_s_own_are_told_apart():
    near = {"w_bits": "MP4", "settings": {"bits.weight": "3.995"}}
    rows = tables(collected(whole("a", w_bits="MP4"), whole("b", value=91.0, **near)))["top1-fashion-mnist"].frame
    assert list(zip(rows.Settings, rows.ZeroQ, strict=True)) == [("", "90.00"), ("bits.weight=3.995", "91.00")]
    same = tables(collected(whole("a", w_bits="MP4"), whole("b", w_bits="MP4", settings={"bits.weight": "4"})))
    assert list(same["top1-fashion-mnist"].frame["ZeroQ"]) == ["90.00"]
    mine = [record(run="a", method="mine"), record(run="b", method="mine", settings={"percentile": "99"})]
    assert list(tables_of(mine)["sweeps"].frame.Value) == ["99", "default"]
