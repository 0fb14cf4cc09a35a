"""What is left out of tables and figures, and how it is named."""

import json

import pytest

from experiments.analysis.collection import from_folders
from experiments.analysis.tables import tables
from experiments.analysis.tables.method_scores import method_table
from experiments.core import record as records_module
from experiments.core.record import FIELDS, validation_error
from tests.experiments.analysis.records import collected, whole, without_run
from zeroq import ZeroQError


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"network": "3c4d"}, "other weights than most records of fashion/resnet18"),
        ({"data_digest": "0"}, "other test images than most records of fashion/resnet18"),
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


JUNK = (None, True, -1, 1.5, 10**400, "", "x", "=1", "a|b\n<b>", "../x", [], [1], {}, {"layer": "x"}, {"a": {"b": 1}})


@pytest.mark.parametrize("field", [name for name in FIELDS if name != "schema"])
def test_a_wrong_value_is_left_out_or_shown_but_breaks_nothing(field):
    usual = [whole("a"), whole("b", method="naive"), whole("c", seed=1)]
    for junk in JUNK:
        found = collected(*usual, whole("odd", w_bits="4") | {field: junk})
        used = {record["run"] for record in found.records}
        assert {"a", "b", "c"} <= used
        assert ("odd" in used) != any(omission.run == "odd" for omission in found.omissions)
        if "odd" in used or junk == JUNK[-1]:  # of those that are left out, one shows what all do
            assert all(table.markdown() and table.latex() for table in tables(found).values())


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
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "record.json").write_text(text)
    found = from_folders(outputs=tmp_path)
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
        assert validation_error(without_run(whole("a")) | {field: [[]]}) is not None
    assert validation_error(without_run(whole("a"))) is None


def test_a_record_that_is_a_folder_is_left_out_and_named(tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "record.json").write_text(json.dumps(without_run(whole("a"))))
    (tmp_path / "runs" / "b" / "record.json").mkdir(parents=True)
    (omission,) = from_folders(outputs=tmp_path).omissions
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


def test_no_records_are_a_sentence(tmp_path):
    with pytest.raises(ZeroQError, match=r"there are no records in .*; make some with"):
        from_folders(outputs=tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "record.json").write_text("{}")
    with pytest.raises(ZeroQError, match=r"no record is usable, for example: left out: a \(schema None"):
        from_folders(outputs=tmp_path)


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


def test_a_seed_changes_nothing_where_nothing_is_drawn():
    naive = [whole("a", method="naive", seed=1), whole("b", method="naive")]
    found = collected(*naive, whole("c", method="gaussian", seed=1))
    assert [record["run"] for record in found.records] == ["b", "c"]


def test_naive_is_uniform_once():
    found = collected(whole("mp4a8", method="naive", w_bits="4"), whole("w4a8", method="naive", w_bits="4"))
    (row,) = method_table(found.records).to_dict("records")
    assert (row["Naive"], row["Naive"].runs) == ("90.00", ("w4a8",))
