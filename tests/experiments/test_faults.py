"""A disk that is full or read-only, at every stage: what was to be written is there whole or not at all."""

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from experiments.core import tracker
from tests.command_line import COUNT, only_runs
from tests.experiments.disks import Disk, disk

RUN = ("method=gaussian", "bits=mp4a8", "tracker=disabled", *COUNT)
NAME = "fashion-resnet18,gaussian,mp4a8,seed=0,distill.count=2"
# What a machine and a moment decide.
OF_THE_MOMENT = ("seconds", "git_commit", "versions")
SLOW = pytest.mark.slow
FULL = "No space left on device"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Disk]:
    with disk(tmp_path_factory.mktemp("disk") / "outputs", "16m") as mounted:
        yield mounted


@pytest.fixture(scope="module")
def outputs(small) -> Path:
    return small.folder


@pytest.fixture(scope="module")
def roomy(tmp_path_factory) -> Path:
    """The outputs of the run on a disk with room, made by whoever asks first."""
    return tmp_path_factory.mktemp("roomy")


@pytest.fixture
def undisturbed(command, roomy) -> dict:
    """The record of the run there."""
    assert command(*RUN, f"outputs={roomy}") == 0
    return record(roomy)


def record(outputs: Path) -> dict:
    content = json.loads((outputs / "runs" / NAME / "record.json").read_text())
    return {key: value for key, value in content.items() if key not in OF_THE_MOMENT}


def leftovers(outputs: Path) -> list[str]:
    return [str(path) for path in outputs.rglob(".*") if path.name != ".made"]


def emptied(outputs: Path) -> None:
    for path in outputs.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def ended(monkeypatch, capsys, program: str, *words: str) -> str:
    """The sentence that a program ends with; empty where all is well."""
    module = import_module(f"experiments.{program}")
    monkeypatch.setattr(sys, "argv", [program, *words])
    try:
        module.main()
    except SystemExit as error:
        return str(error.code)
    finally:
        assert "Traceback" not in "".join(capsys.readouterr())
    return ""


def check_full(command, outputs: Path, capsys) -> None:
    """A run on a disk that is full at some stage says so and leaves nothing but whole stages."""
    assert command(*RUN) == 1
    said = " ".join("".join(capsys.readouterr()).split())
    assert "error: cannot write to" in said
    assert FULL in said
    assert "Traceback" not in said
    assert only_runs(outputs) == set()
    assert leftovers(outputs) == [str(outputs / ".ballast")]


@pytest.mark.parametrize("pages", [2, 14])
def test_a_disk_that_fills_costs_the_record_or_nothing(command, small, outputs, capsys, undisturbed, pages):
    """While a stage is kept, and while the run's folder is written."""
    emptied(outputs)
    capsys.readouterr()
    with small.with_left(pages):
        check_full(command, outputs, capsys)
    assert command(*RUN) == 0
    assert record(outputs) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("place", [".", "runs", "cache"])
def test_whatever_is_left_of_a_disk(command, tmp_path, capsys, undisturbed, place):
    """All of it, or only where records or stages go: with a page more each time, until the run fits."""
    outputs = tmp_path / "outputs"
    with disk(outputs / place, "16m") as small:
        for pages in range(40):
            capsys.readouterr()
            with small.with_left(pages):
                code = command(*RUN, f"outputs={outputs}")
                if code == 0:
                    break
                assert code == 1
                said = " ".join("".join(capsys.readouterr()).split())
                assert f"({FULL})" in said
                assert "Traceback" not in said
                assert only_runs(outputs) - {".ballast"} == set()
                assert leftovers(outputs) == [str(small.folder / ".ballast")]
            if place == ".":
                emptied(outputs)
        assert 0 < pages < 39
        assert record(outputs) == undisturbed


@pytest.mark.slow
def test_a_disk_that_is_full_when_the_tracker_writes(command, small, outputs, capsys, undisturbed, monkeypatch):
    monkeypatch.setattr(tracker, "_out_of_order", threading.Event())
    words = [word for word in RUN if not word.startswith("tracker")]
    states = []
    for pages in range(12, 60, 6):
        emptied(outputs)
        with small.with_left(pages):
            states.append(command(*words, "tracker=offline"))
            assert leftovers(outputs / "runs") == []
            assert (outputs / "runs" / NAME / "record.json").exists() == (states[-1] == 0)
            if states[-1] == 0:
                assert record(outputs) == undisturbed
        assert "Traceback" not in "".join(capsys.readouterr())
    assert states == sorted(states, reverse=True)
    assert set(states) == {0, 1}


def made_by(program: str, outputs: Path) -> dict[str, bytes]:
    """What a program has written, without its list of it."""
    where = outputs / program
    files = where.iterdir() if where.is_dir() else outputs.glob("*.html")
    return {path.name: path.read_bytes() for path in files if path.name != ".made"}


@pytest.mark.parametrize(
    ("program", "pages"),
    [("tables", [0, 3]), *(pytest.param(each, [*range(60)], marks=SLOW) for each in ("tables", "figures", "report"))],
)
def test_what_is_made_of_records_is_whole(program, pages, roomy, undisturbed, small, outputs, monkeypatch, capsys):
    emptied(outputs)
    shutil.copytree(roomy / "runs", outputs / "runs")
    assert ended(monkeypatch, capsys, program, f"outputs={roomy}") == ""
    expected = made_by(program, roomy)
    assert expected
    for left in pages:
        with small.with_left(left):
            said = ended(monkeypatch, capsys, program, f"outputs={outputs}")
            assert leftovers(outputs) == [str(outputs / ".ballast")]
        if not said:
            break
        assert said.startswith("error: cannot write ")
        assert f"({FULL})" in said
        if program != "report":  # which holds the folder's name
            assert made_by(program, outputs).items() <= expected.items()
    assert ended(monkeypatch, capsys, program, f"outputs={outputs}") == ""
    assert made_by(program, outputs).keys() == expected.keys()


@pytest.mark.parametrize("left", [0, 2, 3])
def test_collected_results_stay_as_they_were(left, roomy, undisturbed, small, outputs, monkeypatch, capsys):
    emptied(outputs)
    words = (f"outputs={roomy}", f"results={outputs / 'results'}")
    with small.with_left(left):
        assert f"({FULL})" in ended(monkeypatch, capsys, "collect", *words)
        files = [path.name for path in outputs.rglob("*") if path.is_file() and path.name != ".lock"]
        assert files == [".ballast"]
    assert ended(monkeypatch, capsys, "collect", *words) == ""
    assert (outputs / "results" / "runs" / "fashion-resnet18.jsonl").exists()


def test_a_folder_that_cannot_be_written(command, roomy, undisturbed, small, outputs, monkeypatch, capsys):
    emptied(outputs)
    shutil.copytree(roomy / "runs", outputs / "runs")
    before = record(outputs)
    capsys.readouterr()
    with small.read_only():
        assert command(*RUN) == 1
        assert command(*RUN, "bits=w4a8") == 1
        assert capsys.readouterr().out.count("(Read-only file system)") == 2
        assert "Read-only file system" in command("-m", *RUN)
        programs = {name: [f"outputs={outputs}"] for name in ("tables", "figures", "report")}
        programs["collect"] = [f"outputs={roomy}", f"results={outputs / 'results'}"]
        programs["export"] = [f"run={outputs / 'runs' / NAME}"]
        for program, words in programs.items():
            said = ended(monkeypatch, capsys, program, *words)
            assert said.startswith("error: cannot "), program
            assert "Read-only file system" in said
    assert record(outputs) == before
    assert leftovers(outputs) == []


@pytest.mark.slow
def test_an_export_on_a_disk_that_fills(command, roomy, undisturbed, small, outputs, monkeypatch, capsys):
    emptied(outputs)
    for folder in ("runs", "cache"):
        shutil.copytree(roomy / folder, outputs / folder)
    before = record(outputs)
    for left in (0, 40):
        with small.with_left(left):
            said = ended(monkeypatch, capsys, "export", f"run={outputs / 'runs' / NAME}")
            assert said.startswith("error: cannot write "), said
            assert record(outputs) == before
            assert not list(outputs.rglob("*.onnx"))
            assert leftovers(outputs) == [str(outputs / ".ballast")]
    assert ended(monkeypatch, capsys, "export", f"run={outputs / 'runs' / NAME}") == ""
    assert "deployed_value" in record(outputs)
