"""What is a sweep over one setting, and what is none."""

import pytest

from tests.experiments.analysis.records import record, tables_of


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
