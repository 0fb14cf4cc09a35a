"""What a record may say that it was set to."""

import json
import sys

import pytest

from experiments import collect, reproduce, tables
from experiments.core.collecting import unpack
from experiments.core.deployment import config_of
from experiments.core.record import read_record, validation_error
from experiments.core.results import KeptRuns
from experiments.core.setting_keys import setting_error
from tests.paths import RESULTS
from zeroq.errors import ZeroQError

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
        ("model.name", "a\u2028b"),
        ("model.checkpoint", "\ud800"),
        ("model.checkpoint", r"$\{oc.env\:HOME\}"),
        ("outputs", "/tmp/elsewhere"),
        ("force", "true"),
        ("tracker", "online"),
        ("tracker.mode", "online"),
        ("device", "cpu"),
        ("data.root", "/etc"),
        ("seed", "2001-99-99"),
        ("percentile", "2001-01-01 99:99:99"),
        ("bits.weight", "9" * 6000),
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
        ("distill", "published_2020_01"),
        ("calibration", "quantized"),
        ("weight_range", "min_max"),
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


def test_a_record_of_a_checkpoint_opens_no_file(tmp_path, content, monkeypatch):
    content["settings"] = {"model.checkpoint": "/etc/passwd"}
    folder = unpack(RESULTS, NAME, tmp_path / "runs")
    (folder / "record.json").write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["reproduce", f"outputs={tmp_path}"])
    with pytest.raises(SystemExit, match="of a network of somebody's own"):
        reproduce.main()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("device: ${oc.env:HOME}", "refers to other values"),
        ("a: " + 3000 * "[", "is damaged"),
        ("a: [", "is damaged"),
        (b"\xff\xfe\x00a", "is damaged"),
    ],
)
def test_a_config_that_an_export_cannot_use(text, sentence, tmp_path):
    folder = unpack(RESULTS, NAME, tmp_path / "runs")
    (folder / "config.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ZeroQError, match=sentence):
        config_of(folder, read_record(folder), None)


@pytest.mark.parametrize("text", [200_000 * "[", "{", '{"schema": 1}', "[]", '"\\ud800"'])
def test_a_damaged_record_is_left_out(text, tmp_path, monkeypatch, capsys):
    unpack(RESULTS, NAME, tmp_path / "runs")
    (tmp_path / "runs" / "odd").mkdir()
    (tmp_path / "runs" / "odd" / "record.json").write_text(text)
    monkeypatch.setattr(sys, "argv", ["tables", f"outputs={tmp_path}"])
    tables.main()
    assert "Left out: odd (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "../../evil"),
        ("model", "fashion/../x"),
        ("dataset", "a/b"),
        ("method", "a|b"),
        ("method", "-rf"),
        ("placement", "a,b"),
        ("placement", "integer"),
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
