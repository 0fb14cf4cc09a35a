"""What a record may say that it was set to."""

import json
import sys

import pytest

from experiments import collect, reproduce
from experiments.core.collecting import unpack
from experiments.core.record import validation_error
from experiments.core.results import KeptRuns
from experiments.core.setting_keys import setting_error
from tests.paths import RESULTS

NAME = "fashion-resnet18,naive,w4a8,seed=0,method.per_channel=true"
EVIL = '{_target_: os.system, command: "touch taken"}'


@pytest.fixture
def content() -> dict:
    return KeptRuns(RESULTS).contents()[NAME]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("+hydra.callbacks.evil", EVIL),
        ("hydra.callbacks.evil", EVIL),
        ("hydra.run.dir", "/tmp"),
        ("++method.evil", "1"),
        ("~method", "zeroq"),
        ("method._target_", "os.system"),
        ("experiment", "paper/resnet18"),
        ("grids", "[{}]"),
        ("distill", "../../evil"),
        ("distill", "published,fast"),
        ("bits.weight", "abc"),
        ("bits.weight", "[4]"),
        ("bits.mixed", "4"),
        ("percentile", "abc"),
        ("method.candidates", "4"),
        ("model.name", "${oc.env:HOME}"),
        ("model.name", "a\nb"),
    ],
)
def test_what_no_run_of_ours_can_have(key, value, content, tmp_path, monkeypatch):
    assert setting_error(key, value) is not None
    content["settings"][key] = value
    assert "has settings of which" in validation_error(content)
    # No record that reaches a command line has it.
    folder = unpack(RESULTS, NAME, tmp_path / "runs")
    (folder / "record.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "again", lambda *arguments: pytest.fail("it was run"))
    monkeypatch.setattr(sys, "argv", ["reproduce", f"outputs={tmp_path}"])
    with pytest.raises(SystemExit):
        reproduce.main()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("distill", "natural"),
        ("bits.weight", "3.5"),
        ("bits.size_mib", "null"),
        ("method.candidates", "[2,8]"),
        ("percentile", "99.9"),
        ("distill.size", "16"),
        ("method.dfq", "true"),
        ("model.name", "resnet18.a1_in1k"),
    ],
)
def test_what_a_run_can_have(key, value):
    assert setting_error(key, value) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "../../evil"),
        ("model", "fashion/../x"),
        ("dataset", "a/b"),
        ("method", "a|b"),
        ("method", "-rf"),
        ("placement", "a,b"),
        ("rounding", "\n"),
    ],
)
def test_names_of_a_record_are_names(field, value, content):
    assert validation_error(content) is None
    assert field in validation_error(content | {field: value})


@pytest.mark.parametrize(
    "changed",
    [
        {"run": "../evil"},
        {"run": ".partial"},
        {"files": {"../evil": "0" * 64}},
        {"files": {"distilled.png": "../evil"}},
    ],
)
def test_a_line_that_would_leave_its_folder_is_none(changed, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    line = KeptRuns(RESULTS).lines[NAME] | changed
    (tmp_path / "runs" / "fashion-resnet18.jsonl").write_text(json.dumps(line) + "\n")
    (found,) = KeptRuns(tmp_path).lines.values()
    assert isinstance(found, ValueError)
    words = [f"run={line['run']}", f"to={tmp_path / 'to'}", f"results={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["collect", *words])
    with pytest.raises(SystemExit, match="error"):
        collect.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
