"""Tables and figures: what may share a row, and what may not."""

import pytest

from experiments.ablation import ablation_table
from experiments.figures import comparable_records, recipe_words, setting_words
from experiments.tables import loss_table, method_table, tables
from zeroq import ZeroQError


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
        },
    }
    return plain | changes


def test_every_dataset_has_a_table_of_its_own():
    scenes = {"model": "fashion/retinanet", "dataset": "fashion-scenes", "metric": "map"}
    photographs = {"model": "imagenet/resnet18", "dataset": "imagenet"}
    records = [record(), record(**scenes, value=0.5678, fp32_value=0.6), record(**photographs)]
    found = tables(records)
    assert list(found) == ["top1-fashion-mnist", "top1-imagenet", "map-fashion-scenes"]
    title, table = found["map-fashion-scenes"]
    assert title == "Mean average precision (IoU 0.50:0.95), fashion-scenes"
    (row,) = table.to_dict("records")
    assert (row["Network"], row["ZeroQ"], row["FP32"]) == ("fashion/retinanet", "0.568", "0.600")
    losses = tables([record(distill_loss=1.0, gaussian_loss=30.0, seconds={"distill": 2.0})])["batch_norm_loss"][1]
    assert losses.to_dict("records")[0]["Ratio"] == "30.0"


def test_seeds_are_averaged_and_counted():
    (row,) = method_table([record(), record(seed=1, value=91.0), record(method="naive")]).to_dict("records")
    assert row["ZeroQ"] == "90.50 ± 0.71 (2)"
    assert row["Naive"] == "90.00"
    assert "Real data*" not in row
    first, second = method_table([record(), record(w_bits="4", method="real")]).to_dict("records")
    assert (first["Real data*"], second["ZeroQ"]) == ("–", "–")


def test_a_known_recipe_has_a_column_any_other_a_row():
    bounded, other = (record(value=80.0, settings={"distill": recipe}) for recipe in ("bounded", "mine"))
    first, second = method_table([record(), bounded, other]).to_dict("records")
    assert (first["Settings"], first["ZeroQ"], first["ZeroQ, bounded"]) == ("", "90.00", "80.00")
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
    ("change", "what"),
    [
        ({"network": "3c4d"}, "weights"),
        ({"images": 1000}, "numbers of test images"),
        ({"fp32_value": 90.0}, "scores of the float network"),
    ],
)
def test_what_is_not_comparable_never_shares_a_table(change, what):
    with pytest.raises(ZeroQError, match=f"have 2 different {what}, for example [ac],[bd] and [ac],[bd]"):
        method_table([record(), record(run="c,d", method="gaussian", **change)])
    own = change | {"settings": {"model.checkpoint": "mine.pt"}}
    assert len(method_table([record(), record(**own)])) == 2


def test_another_device_may_round_the_float_network_differently():
    assert len(method_table([record(), record(method="gaussian", fp32_value=92.01)])) == 1


def test_two_records_of_one_run_are_no_two_seeds():
    others = [record(seed=1), record(w_bits="MP4"), record(w_bits="MP4", settings={"bits.weight": "3.995"})]
    method_table([record(), *others])
    with pytest.raises(ZeroQError, match=r"two records are of the same run: a,b and c,d"):
        method_table([*others, record(), record(run="c,d")])


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
    assert list(table["Bias correction"]) == ["–", "–", "–", "–", "analytic"]
    whole = tables(runs)
    assert list(whole) == ["top1-fashion-mnist", "dfq_ablation"]
    assert list(whole["top1-fashion-mnist"][1]["DFQ"]) == ["4.00", "90.00"]


def test_ablation_averages_seeds_and_nothing_else():
    steps = {"settings": {"method.equalize": "false"}, "method": "dfq"}
    runs = [record(**steps), record(**steps, seed=1, value=91.0), record(**steps, model="fashion/b", value=80.0)]
    runs.append(record(method="dfq", model="fashion/b", value=70.0))
    assert list(ablation_table(runs)["W8/A8"]) == ["80.00", "70.00", "90.50 ± 0.71 (2)"]
    with pytest.raises(ZeroQError, match=r"two records are of the same run: a,b and c,d"):
        ablation_table([*runs, record(**steps, run="c,d")])
    with pytest.raises(ZeroQError, match="have 2 different weights"):
        ablation_table([*runs, record(**steps, seed=2, network="3c4d")])


def test_naive_is_uniform_once():
    (row,) = method_table([record(method="naive", w_bits="4")] * 2).to_dict("records")
    assert row["Naive"] == "90.00"


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
