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


def test_a_cell_shows_the_range_where_sources_differ_and_notes_say_which_has_which():
    own = {"model": "imagenet/resnet18", "dataset": "imagenet", "fp32_value": 71.4}
    table = tables_of([record(run="four", w_bits="4", a_bits=4, value=25.0, **own), record(run="eight", **own)])[
        "paper-imagenet-resnet18"
    ]
    frame = table.frame[table.frame.Method == "ZeroQ"].set_index("W-bit")
    assert (frame.loc["4", "Reported"], frame.loc["4", "Difference"]) == ("19.09 to 24.16", "+0.84 to +5.91")
    # Two sources that agree.
    assert frame.loc["8", "Reported"] == "71.43"
    assert frame.loc["4", "Difference"].runs == ("four",)
    for value, place in (("19.09", "SQuant (ICLR 2022) Table 1"), ("22.58", "AIT"), ("24.16", "ricky40403/GDFQ")):
        (note,) = [note for note in table.notes if f"ZeroQ W4/A4 {value}" in note]
        assert f"): {place}" in note
    assert not any("ZeroQ W8/A8 71.43" in note for note in table.notes)


def test_ranges_of_one_reproduction_stand_beside_each_other():
    table = tables_of([record(model="imagenet/resnet50", dataset="imagenet")])["paper-imagenet-resnet50"]
    frame = table.frame.set_index(["Method", "W-bit"])
    assert frame.loc[("ZeroQ-MP (others')", "MP6"), "Reported"] == "70.97 to 76.27"
    assert any("MP6/A6 70.97" in note and "min-max ranges" in note for note in table.notes)
    assert any("MP6/A6 76.27" in note and "percentile" in note for note in table.notes)


def test_later_methods_are_not_in_the_papers_tables():
    found = tables_of([record(model="imagenet/resnet18", dataset="imagenet")])
    methods = {
        method for name, table in found.items() if name.startswith("paper-") for method in table.frame.get("Method", ())
    }
    assert methods.isdisjoint({"GDFQ", "SQuant", "GENIE", "SynQ"})


def test_a_network_of_other_weights_has_the_float_score_of_its_sources():
    frame = tables_of([record(model="imagenet/resnet18", dataset="imagenet")])[
        "paper-imagenet-torchvision-resnet18"
    ].frame
    assert (frame.Method[0], frame.Reported[0], frame["Size (MiB)"][0]) == ("Baseline", "69.76", "–")


def test_reported_times_are_notes():
    notes = tables_of([record(model="imagenet/resnet50", dataset="imagenet")])["paper-imagenet-resnet50"].notes
    assert [note.partition(":")[0] for note in notes if "to take" in note] == [
        "Reported to take 92 s (ZeroQ W4/A4)",
        "Reported to take 30 s (ZeroQ)",
    ]
