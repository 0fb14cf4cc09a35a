"""DFQ step by step."""

from experiments.analysis.tables.dfq_ablation import ablation_table
from tests.experiments.analysis.records import record, tables_of


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
