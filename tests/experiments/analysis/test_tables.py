"""Tables and figures: what may share a row, and what may not."""

import json

import pytest

from experiments.analysis.collection import Collection, collection, from_folder
from experiments.analysis.tables.dfq_ablation import ablation_table
from experiments.analysis.tables.methods import loss_table, method_table
from experiments.analysis.tables.sweeps import level_order
from experiments.core import record as records_module
from experiments.core.record import flaw
from experiments.figures import comparable_records, recipe_words, setting_words
from experiments.tables import tables
from tests.paths import RUNS
from zeroq import ZeroQError

REAL = json.loads((RUNS / "fashion-resnet18,zeroq,w8a8,seed=0" / "record.json").read_text())


def record(**changes) -> dict:
    plain = {
        **{"model": "fashion/resnet18", "method": "zeroq", "w_bits": "8", "a_bits": 8, "placement": "layer_inputs"},
        **{
            "run": "a,b",
            "network": "1a2b",
            "settings": {},
            "dataset": "fashion-mnist",
            "distill_loss": None,
            "seed": 0,
            "images": 10_000,
            "granularity": "per_channel",
            "metric": "top1",
            "value": 90.0,
            "fp32_value": 92.0,
            "size_mib": 1.0,
            "fp32_size_mib": 4.0,
            "needs_data": False,
        },
    }
    return plain | changes


def whole(run: str, **changes) -> dict:
    """A record with all its fields."""
    return REAL | record(run=run, **changes)


def collected(*records: dict) -> Collection:
    """What is usable of records, by their names."""
    return collection({each["run"]: without_run(each) for each in records})


def without_run(content: dict) -> dict:
    """What ``record.json`` holds: the name is its folder's."""
    return {key: value for key, value in content.items() if key != "run"}


def tables_of(records: list[dict]) -> dict:
    return tables(Collection(records, []))


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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network": "3c4d"}, "other weights than most records of fashion/resnet18"),
        ({"images": 1000}, "1000 test images, most records of fashion/resnet18 have 10000"),
        ({"fp32_value": 90.0}, "the float network scores 90.0 there, 92.0 in most records"),
    ],
)
def test_what_does_not_fit_the_others_is_left_out_and_named(change, reason):
    usual = [whole("a"), whole("b", method="naive"), whole("c", seed=1)]
    found = collected(*usual, odd := whole("odd", method="gaussian", **change))
    assert [record["run"] for record in found.records] == ["a", "b", "c"]
    (omission,) = found.omissions
    assert (omission.run, omission.model) == ("odd", "fashion/resnet18")
    assert reason in omission.reason
    for table in (tables(found)["top1-fashion-mnist"], tables(found)["paper-fashion-mnist-resnet18"]):
        assert table.notes[-1].startswith("Left out: odd (")
        assert reason in table.notes[-1]
    # A checkpoint of one's own is another network.
    odd["settings"] = {"model.checkpoint": "mine.pt"}
    assert collected(*usual, odd).omissions == []


def test_another_device_may_round_the_float_network_differently():
    assert collected(whole("a"), whole("b", method="gaussian", fp32_value=92.01)).omissions == []


@pytest.mark.parametrize(
    ("flawed", "reason"),
    [
        ({"seed": None, "drop": "seed"}, "lacks seed"),
        ({"colour": "red"}, "has colour"),
        ({"schema": 2}, "schema 2, this program reads 1"),
        ({"schema": None, "drop": "schema"}, "schema None"),
    ],
)
def test_a_record_of_other_fields_is_left_out_and_named(tmp_path, flawed, reason):
    content = whole("b") | flawed
    content.pop(content.pop("drop", None), None)
    texts = {"a": json.dumps(without_run(whole("a"))), "b": json.dumps(without_run(content)), "c": "{", ".partial": "{"}
    for run, text in texts.items():
        (tmp_path / run).mkdir()
        (tmp_path / run / "record.json").write_text(text)
    found = from_folder(tmp_path)
    assert [record["run"] for record in found.records] == ["a"]
    assert [omission.run for omission in found.omissions] == ["b", "c"]
    assert reason in found.omissions[0].reason
    assert "damaged: Expecting property name" in found.omissions[1].reason
    assert sum(note.startswith("Left out: ") for note in tables(found)["paper-w8a8"].notes) == 2


WRONG = {
    **{"value": float("nan"), "fp32_value": "92.1", "metric": "top3", "settings": [], "model": 5, "w_bits": "abc"},
    **{"seed": "0", "seconds": {}, "plan": {"conv": "8"}, "granularity": ["per_channel"], "needs_data": "no"},
}


@pytest.mark.parametrize("field", WRONG)
def test_a_field_of_another_kind_is_left_out_and_named(field):
    found = collected(whole("a"), whole("b", **{field: WRONG[field]}))
    assert [record["run"] for record in found.records] == ["a"]
    assert f"has {json.dumps(WRONG[field])} for {field}" in found.omissions[0].reason
    assert all(table.notes[-1].startswith("Left out: b (") for table in tables(found).values() if table.model is None)


def test_every_field_is_checked():
    for field in records_module.FIELDS:
        assert flaw(without_run(whole("a")) | {field: [[]]}) is not None
    assert flaw(without_run(whole("a"))) is None


def test_a_record_that_is_a_folder_is_left_out_and_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "record.json").write_text(json.dumps(without_run(whole("a"))))
    (tmp_path / "b" / "record.json").mkdir(parents=True)
    (omission,) = from_folder(tmp_path).omissions
    assert "b (damaged: " in str(omission)


def test_a_network_of_which_nothing_is_usable_is_named_in_tables_over_networks():
    found = tables(collected(whole("a"), whole("b", model="fashion/squeezenext", schema=7)))
    for name in ("top1-fashion-mnist", "paper-w8a8"):
        assert found[name].notes[-1] == "Left out: b (schema 7, this program reads 1)."
    assert not any("Left out" in note for note in found["paper-fashion-mnist-resnet18"].notes)


def test_as_many_records_of_two_origins_leave_none():
    pair = [whole("a"), whole("b", method="naive", network="3c4d"), whole("c", model="fashion/resnet50")]
    found = collected(*pair)
    assert [record["run"] for record in found.records] == ["c"]
    assert all("as many records of fashion/resnet18 are of other weights" in each.reason for each in found.omissions)


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


def test_reported_networks_are_rows_of_their_own():
    rows = tables_of([record()])["paper-w8a8"].frame.set_index("Network")
    assert rows.loc["fashion/resnet18", "Reported to lose"] == "–"
    assert (rows.loc["imagenet/resnet18", "ZeroQ"], rows.loc["imagenet/resnet18", "Reported to lose"]) == ("–", "0.04")


def test_no_records_are_a_sentence(tmp_path):
    with pytest.raises(ZeroQError, match=r"there are no records in .*; make some with"):
        from_folder(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "record.json").write_text("{}")
    with pytest.raises(ZeroQError, match=r"no record is usable, for example: left out: a \(schema None"):
        from_folder(tmp_path)


def test_two_records_of_one_run_count_once_or_not_at_all():
    usual = [whole("a"), whole("b", seed=1), whole("c", w_bits="MP4")]
    usual.append(whole("d", w_bits="MP4", settings={"bits.weight": "3.995"}))
    same = collected(*usual, whole("again", value=90.1))
    assert [record["run"] for record in same.records] == ["again", "b", "c", "d"]
    assert same.omissions == []
    other = collected(*usual, whole("again", value=80.0))
    assert [record["run"] for record in other.records] == ["b", "c", "d"]
    assert [str(omission) for omission in other.omissions] == [
        "left out: a (90.0, but again, of the same run, disagrees)",
        "left out: again (80.0, but a, of the same run, disagrees)",
    ]


def test_a_method_of_one_s_own_has_a_column():
    (row,) = method_table([record(), record(method="mine", value=80.0)]).to_dict("records")
    assert list(row)[-2:] == ["ZeroQ", "mine"]
    assert row["mine"] == "80.00"


def test_losses_of_another_checkpoint_have_a_row_of_their_own():
    distilled = {"distill_loss": 1.0, "gaussian_loss": 30.0, "seconds": {"distill": 2.0}}
    own = record(**distilled, network="3c4d", settings={"model.checkpoint": "mine.pt"})
    assert list(loss_table([record(**distilled), own]).Settings) == ["", "model.checkpoint=mine.pt"]
    assert recipe_words(own) == ("fashion/resnet18", "model.checkpoint=mine.pt")


def test_a_checkpoint_has_rows_of_its_own():
    other = record(network="2b3c", settings={"model.checkpoint": "mine.pt"})
    assert list(method_table([record(), other]).Settings) == ["", "model.checkpoint=mine.pt"]


def test_methods_of_other_granularity_never_share_a_row():
    table = method_table([record(), record(method="dfq", granularity="per_tensor", settings={})])
    assert list(table.Weights) == ["per channel", "per tensor"]
    both = [record(), record(method="dfq", settings={"method.per_channel": "true"})]
    assert len(method_table(both)) == 1


def test_ablation_goes_from_no_step_to_all():
    steps = ("method.replace_relu6", "method.equalize", "method.absorb")
    settings = [dict.fromkeys(steps[index:], "false") | {"method.bias_correction": "none"} for index in range(4)]
    runs = [record(method="dfq", value=float(index), settings=each) for index, each in enumerate(settings)]
    runs += [record(method="dfq", value=4.0, settings={})]
    runs += [
        record(method="dfq", value=50.0 + index, settings=each, w_bits="32", a_bits=32)
        for index, each in enumerate(settings)
    ]
    runs += [record(method="dfq", model="fashion/resnet18b", settings={})]  # without a step switched off
    table = ablation_table(runs)
    assert list(table["W8/A8"]) == ["0.00", "1.00", "2.00", "3.00", "4.00"]
    assert list(table["FP32 after the steps"]) == ["50.00", "51.00", "52.00", "53.00", "53.00"]
    assert list(table["Bias correction"]) == ["no", "no", "no", "no", "analytic"]
    found = tables_of(runs)
    assert list(found)[:2] == ["top1-fashion-mnist", "dfq_ablation"]
    assert list(found["top1-fashion-mnist"].frame["DFQ"]) == ["4.00", "90.00"]


def test_steps_without_a_quantized_run_have_a_row():
    steps = {"method": "dfq", "settings": {"method.equalize": "false"}}
    found = tables_of([record(**steps, w_bits="32", a_bits=32, value=91.0)])
    (row,) = found["dfq_ablation"].frame.to_dict("records")
    assert row["FP32 after the steps"] == "91.00"


def test_ablation_averages_seeds_and_nothing_else():
    steps = {"settings": {"method.equalize": "false"}, "method": "dfq"}
    runs = [record(**steps), record(**steps, seed=1, value=91.0), record(**steps, model="fashion/b", value=80.0)]
    runs.append(record(method="dfq", model="fashion/b", value=70.0))
    assert list(ablation_table(runs)["W8/A8"]) == ["80.00", "70.00", "90.50 ± 0.71 (2)"]


def test_a_step_switched_off_beside_other_settings_has_a_row_among_the_methods():
    own = record(method="dfq", settings={"method.equalize": "false", "model.checkpoint": "mine.pt"})
    found = tables_of([own, record(method="dfq")])
    assert "dfq_ablation" not in found
    settings = list(found["top1-fashion-mnist"].frame.Settings)
    assert settings == ["", "method.equalize=false model.checkpoint=mine.pt"]


def test_a_setting_that_one_method_was_run_with_stands_beside_its_default():
    counts = [record(value=20.0 + count, settings={"distill.count": str(count)}) for count in (64, 8)]
    narrow = record(w_bits="4", value=70.0, settings={"distill.count": "8"})
    plain = [record(seed=1, value=0.0), record(w_bits="6", value=0.0), record(method="naive", value=0.0)]
    found = tables_of([record(), *counts, narrow, *plain])
    rows = found["sweeps"].frame.to_dict("records")
    assert [row["Value"] for row in rows] == ["8", "32 (default)", "64"]
    assert [row["W8/A8"] for row in rows] == ["28.00", "90.00", "84.00"]
    assert [row["W4/A8"] for row in rows] == ["70.00", "–", "–"]
    assert "Settings" not in found["top1-fashion-mnist"].frame


def test_another_method_with_the_same_value_takes_it_from_no_sweep():
    cut = {"percentile": "99"}
    runs = [record(run="a"), record(run="b", value=80.0, settings=cut)]
    runs += [record(run="c", method="gaussian", value=70.0, settings=cut)]
    found = tables_of([*runs, record(run="d", value=60.0, settings={"percentile": "99.9"})])
    assert list(found["sweeps"].frame["W8/A8"]) == ["80.00", "60.00", "90.00"]
    methods = found["top1-fashion-mnist"].frame
    assert list(methods[methods.Settings == "percentile=99"]["Gaussian"]) == ["70.00"]
    assert "percentile=99.9" not in list(methods.Settings)


def test_a_sweep_may_have_another_setting_throughout():
    few = {"distill.iterations": "20"}
    runs = [record(run=str(count), value=count, settings={**few, "distill.count": str(count)}) for count in (4, 8)]
    found = tables_of([record(run="a"), record(run="b", value=50.0, settings=few), *runs])
    rows = [tuple(row) for row in found["sweeps"].frame[["Settings", "Setting", "Value", "W8/A8"]].to_numpy()]
    assert rows == [
        ("", "distill.iterations", "20", "50.00"),
        ("", "distill.iterations", "500 (default)", "90.00"),
        ("distill.iterations=20", "distill.count", "4", "4.00"),
        ("distill.iterations=20", "distill.count", "8", "8.00"),
        ("distill.iterations=20", "distill.count", "32 (default)", "50.00"),
    ]
    assert list(found["top1-fashion-mnist"].frame["ZeroQ"]) == ["90.00"]


def test_budgets_of_one_label_and_methods_of_one_s_own_are_told_apart():
    near = {"w_bits": "MP4", "settings": {"bits.weight": "3.995"}}
    rows = tables(collected(whole("a", w_bits="MP4"), whole("b", value=91.0, **near)))["top1-fashion-mnist"].frame
    assert list(zip(rows.Settings, rows.ZeroQ, strict=True)) == [("", "90.00"), ("bits.weight=3.995", "91.00")]
    same = tables(collected(whole("a", w_bits="MP4"), whole("b", w_bits="MP4", settings={"bits.weight": "4"})))
    assert list(same["top1-fashion-mnist"].frame["ZeroQ"]) == ["90.00"]
    mine = [record(run="a", method="mine"), record(run="b", method="mine", settings={"percentile": "99"})]
    assert list(tables_of(mine)["sweeps"].frame.Value) == ["99", "default"]


def test_a_seed_changes_nothing_where_nothing_is_drawn():
    naive = [whole("a", method="naive", seed=1), whole("b", method="naive")]
    found = collected(*naive, whole("c", method="gaussian", seed=1))
    assert [record["run"] for record in found.records] == ["b", "c"]


def test_values_of_a_setting_are_in_order():
    assert sorted(["[2,3,4,8]", "[2,4,8]"], key=level_order) == ["[2,4,8]", "[2,3,4,8]"]
    assert sorted(["null", "10", "9.5"], key=level_order) == ["9.5", "10", "null"]
    assert sorted(["image", "batch", "99", "[2]"], key=level_order) == ["99", "[2]", "batch", "image"]


@pytest.mark.parametrize(
    "others",
    [
        [record(settings={"percentile": "99", "symmetric": "true"})],
        [record(settings={"model.checkpoint": "mine.pt"})],
        [record(settings={"distill": "mine"})],
        [record(settings={"distill": "bounded"})],
        [record(method="dfq", settings={"method.equalize": "false"})],
    ],
)
def test_what_is_no_sweep_over_one_setting_is_not_among_the_sweeps(others):
    assert "sweeps" not in tables_of([record(), *others])


def test_naive_is_uniform_once():
    found = collected(whole("mp4a8", method="naive", w_bits="4"), whole("w4a8", method="naive", w_bits="4"))
    (row,) = method_table(found.records).to_dict("records")
    assert (row["Naive"], row["Naive"].runs) == ("90.00", ("w4a8",))


def test_uniform_comes_before_mixed_and_wide_before_narrow():
    labels = [("MP4", 8), ("4", 4), ("4", 8), ("8", 8), ("MP6", 6)]
    table = method_table([record(w_bits=weight, a_bits=activation) for weight, activation in labels])
    assert list(table["Bits"]) == ["W8/A8", "W4/A8", "W4/A4", "MP6/A6", "MP4/A8"]


def test_figures_compare_like_with_like():
    records = [record(seed=1), record(), record(method="gaussian"), record(settings={"percentile": "99"})]
    groups = comparable_records(records, setting_words)
    assert {words: len(group) for words, group in groups.items()} == {
        ("fashion/resnet18",): 2,
        ("fashion/resnet18", "percentile=99"): 1,
    }


def test_images_are_shown_once_for_all_placements_and_bits():
    records = [record(), record(placement="after_relu"), record(settings={"distill.count": "8"})]
    records.append(record(settings={"distill": "bounded", "bits.refine": "8"}))
    groups = comparable_records(records, recipe_words)
    assert {words: len(group) for words, group in groups.items()} == {
        ("fashion/resnet18",): 3,
        ("fashion/resnet18", "distill.count=8"): 1,
    }
