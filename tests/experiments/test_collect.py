"""Runs on their way into the committed results, and back."""

import json
import multiprocessing
import sys
from pathlib import Path

import pytest
import yaml

from experiments import collect
from experiments.analysis.collection import from_folders
from experiments.core import collecting
from experiments.core.results import KeptRuns, sha256
from tests.command_line import QUICK
from tests.experiments.analysis.records import whole, without_run

PICTURE = b"a picture of images"


@pytest.fixture
def collect_command(monkeypatch):
    """Call the program; its exit status or message."""

    def call(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["collect", *arguments])
        try:
            collect.main()
        except SystemExit as ended:
            return ended.code
        return 0

    return call


def finished(outputs: Path, run: str, *, text: str = "layer,2\nconv,0.5\n", **changes) -> Path:
    """The folder of a run that is done."""
    folder = outputs / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "record.json").write_text(json.dumps(without_run(whole(run, **changes))))
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "outputs": str(outputs)}))
    (folder / "sensitivity.csv").write_text(text)
    (folder / "distilled.png").write_bytes(PICTURE)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the lock."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_run_comes_back_as_it_was(command, collect_command, quick_scores, outputs, tmp_path, capsys):
    assert command("method=zeroq", "bits=mp4a8", "tracker=disabled", *QUICK) == 0
    (folder,) = (outputs / "runs").glob("fashion-resnet18,zeroq*")
    results = tmp_path / "results"
    assert collect_command(f"outputs={outputs}", f"results={results}") == 0
    assert f"new  {folder.name}\n" in capsys.readouterr().out
    assert collect_command(f"run={folder.name}", f"to={tmp_path}", f"results={results}") == 0
    before, after = contents(folder), contents(tmp_path / folder.name)
    configs = [yaml.safe_load(files.pop("config.yaml")) for files in (before, after)]
    assert after == before
    assert {"record.json", "sensitivity.csv", "distill_loss.csv", "distilled.png"} == after.keys()
    assert configs[0].pop("outputs") == str(outputs)
    assert configs[0] == configs[1]

    kept, worked = from_folders(results=results), from_folders(outputs=outputs)
    assert kept.records == worked.records
    (record,) = kept.records
    assert kept.frontier(record).equals(worked.frontier(record))
    assert kept.losses(record).equals(worked.losses(record))


def test_a_run_is_added_left_or_replaced(collect_command, tmp_path, capsys):
    results = tmp_path / "results"
    words = (f"outputs={tmp_path}", f"results={results}")
    finished(tmp_path, "b")
    finished(tmp_path, "a", method="gaussian")
    assert collect_command(*words) == 0
    assert list(KeptRuns(results).lines) == ["a", "b"]
    (table,) = (json.loads(line) for line in (results / "stages" / "fashion-resnet18.jsonl").read_text().splitlines())
    assert table == {
        "sha256": sha256(b"layer,2\nconv,0.5\n"),
        "name": "sensitivity.csv",
        "text": "layer,2\nconv,0.5\n",
    }
    first = contents(results)
    assert collect_command(*words) == 0
    assert "0 new, 0 replaced, 2 the same" in capsys.readouterr().out
    assert contents(results) == first

    finished(tmp_path, "c", seed=1, text="layer,2\nconv,0.25\n")
    finished(tmp_path, "b", value=91.0, deployed_mib=0.5, text="layer,2\nconv,0.75\n")
    (tmp_path / "runs" / "b" / "distilled.png").write_bytes(b"another")
    assert collect_command(*words) == 0
    assert "replaced  b\n" in capsys.readouterr().out
    kept = KeptRuns(results)
    assert list(kept.lines) == ["a", "b", "c"]
    assert kept.contents()["b"]["value"] == 91.0
    assert kept.contents()["b"]["deployed_mib"] == 0.5
    assert kept.read("a", "sensitivity.csv") == b"layer,2\nconv,0.5\n"
    assert kept.read("b", "sensitivity.csv") == b"layer,2\nconv,0.75\n"
    assert [path.read_bytes() for path in (results / "pictures").iterdir()] == [b"another"]


def test_what_is_damaged_is_refused_and_named(collect_command, tmp_path, capsys):
    finished(tmp_path, "good")
    finished(tmp_path, "odd", colour="red")
    (finished(tmp_path, "unreadable") / "record.json").write_text("{")
    (finished(tmp_path, "unset") / "config.yaml").unlink()
    assert collect_command(f"outputs={tmp_path}", f"results={tmp_path / 'results'}") == 1
    said = capsys.readouterr().err
    assert "refused: odd (has colour)" in said
    assert "refused: unreadable (damaged: " in said
    assert "refused: unset (its config.yaml cannot be read" in said
    assert list(KeptRuns(tmp_path / "results").lines) == ["good"]


def test_results_are_written_whole_or_not_at_all(collect_command, tmp_path, monkeypatch):
    results, words = tmp_path / "results", (f"outputs={tmp_path}", f"results={tmp_path / 'results'}")
    finished(tmp_path, "a")
    assert collect_command(*words) == 0
    first = contents(results)
    finished(tmp_path, "b", seed=1)
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> None:
        if "fashion-resnet18" in path.name and path.parent.name == "runs":
            write(path, content[:5])
            raise OSError(28, "No space left on device", str(path))
        write(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        assert "No space left on device" in collect_command(*words)
    assert contents(results) == first
    assert collect_command(*words) == 0
    assert list(KeptRuns(results).lines) == ["a", "b"]


def test_damaged_results_are_a_sentence(collect_command, tmp_path):
    results, words = tmp_path / "results", (f"outputs={tmp_path}", f"results={tmp_path / 'results'}")
    finished(tmp_path, "a")
    assert collect_command(*words) == 0
    finished(tmp_path, "a", text="layer,2\nconv,0.25\n", seed=1)
    finished(tmp_path, "b")
    runs, stages = results / "runs" / "fashion-resnet18.jsonl", results / "stages" / "fashion-resnet18.jsonl"
    whole_text = runs.read_text()
    runs.write_text(whole_text + "{")
    assert "fashion-resnet18.jsonl, line 2" in collect_command(*words)
    assert [omission.run for omission in from_folders(results=results).omissions] == ["fashion-resnet18.jsonl, line 2"]
    runs.write_text(whole_text)
    stages.write_text(stages.read_text().replace("0.5", "0.6"))
    with pytest.raises(ValueError, match=r"sensitivity.csv of a is damaged"):
        KeptRuns(results).read("a", "sensitivity.csv")
    (tmp_path / "runs" / "a" / "record.json").unlink()
    (tmp_path / "runs" / "b" / "sensitivity.csv").unlink()
    assert "sensitivity.csv of a is damaged" in collect_command(*words)
    stages.write_text("")
    assert "sensitivity.csv of a is not kept" in collect_command(*words)


def collect_one(outputs: Path, results: Path, barrier) -> None:
    barrier.wait()
    collecting.collect(outputs / "runs", results, collect.shown_pictures)


def test_two_at_once_are_kept_apart(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), tmp_path / "results"
    for name in "ab":
        for seed in range(20):
            finished(tmp_path / name, f"{name}{seed:02}", seed=seed, method={"a": "zeroq", "b": "gaussian"}[name])
    processes = [context.Process(target=collect_one, args=(tmp_path / name, results, barrier)) for name in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(KeptRuns(results).lines) == 40
    assert not any(path.name.endswith(".partial") for path in results.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run=a",), "run=NAME and to=FOLDER unpack one kept run"),
        (("to=a",), "run=NAME and to=FOLDER unpack one kept run"),
        (("rum=a",), "unknown argument 'rum=a'"),
        (("outputs=nowhere",), "there are no finished runs in nowhere/runs"),
        (("run=a", "to=here"), "there is no run a in"),
    ],
)
def test_bad_arguments(collect_command, tmp_path, arguments, said):
    assert said in collect_command(*arguments, f"results={tmp_path / 'results'}")


def test_a_kept_run_is_unpacked_once(collect_command, tmp_path):
    results = tmp_path / "results"
    finished(tmp_path, "a")
    assert collect_command(f"outputs={tmp_path}", f"results={results}") == 0
    folder = collecting.folder_of("a", outputs=tmp_path / "other", results=results)
    assert folder == tmp_path / "other" / "runs" / "a"
    (folder / "record.json").write_text(json.dumps(without_run(whole("a", deployed_mib=0.5))))
    assert collecting.folder_of("a", outputs=tmp_path / "other", results=results) == folder
    assert json.loads((folder / "record.json").read_text())["deployed_mib"] == 0.5
    assert collecting.folder_of(str(folder), outputs=tmp_path, results=results) == folder
    assert "is there already" in collect_command("run=a", f"to={folder.parent}", f"results={results}")
    assert collect_command(f"outputs={tmp_path / 'other'}", f"results={results}") == 0
    assert KeptRuns(results).contents()["a"]["deployed_mib"] == 0.5


def replaced(line: bytes, **changes) -> bytes:
    return json.dumps({key: value for key, value in (json.loads(line) | changes).items() if value is not None}).encode()


DAMAGES = {
    "no line": lambda line: b"{" + line,
    "no name": lambda line: replaced(line, run=None),
    "no model": lambda line: replaced(line, model=None),
    "no network": lambda line: replaced(line, network=None),
    "network is a list": lambda line: replaced(line, network=[1]),
    "no files": lambda line: replaced(line, files=None),
    "files is a list": lambda line: replaced(line, files=[]),
    "no config": lambda line: replaced(line, config=None),
    "a wrong value": lambda line: replaced(line, value="x"),
    "no text": lambda line: b"\xff" + line,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_lines_are_one_sentence_and_stay_as_they_were(damage, collect_command, tmp_path):
    results, outputs = tmp_path / "results", tmp_path / "outputs"
    finished(outputs, "a")
    assert collect_command(f"outputs={outputs}", f"results={results}") == 0
    (path,) = (results / "runs").glob("*.jsonl")
    path.write_bytes(damage(path.read_bytes().strip()) + b"\n")
    before = contents(results)
    finished(outputs, "b")
    assert "restore it first" in collect_command(f"outputs={outputs}", f"results={results}")
    assert contents(results) == before
    said = collect_command("run=a", f"to={tmp_path}", f"results={results}")
    assert "there is no run a" in said or "cannot be used" in said


@pytest.mark.parametrize("damaged", ["null", "[", None])
def test_networks_that_are_no_dictionary_are_one_sentence(damaged, collect_command, tmp_path):
    results, outputs = tmp_path / "results", tmp_path / "outputs"
    finished(outputs, "a")
    assert collect_command(f"outputs={outputs}", f"results={results}") == 0
    path = results / "networks.json"
    path.unlink() if damaged is None else path.write_text(damaged)
    assert "restore it" in collect_command(f"outputs={outputs}", f"results={results}")


def test_a_table_that_is_no_text_costs_its_own_run_alone(collect_command, tmp_path, capsys):
    results, outputs = tmp_path / "results", tmp_path / "outputs"
    finished(outputs, "a")
    (finished(outputs, "b") / "sensitivity.csv").write_bytes(b"\xff")
    assert collect_command(f"outputs={outputs}", f"results={results}") == 1
    assert "refused: b (its sensitivity.csv cannot be read" in capsys.readouterr().err
    assert KeptRuns(results).lines.keys() == {"a"}


def test_a_damaged_picture_is_one_sentence(collect_command, tmp_path):
    results, outputs = tmp_path / "results", tmp_path / "outputs"
    finished(outputs, "a")
    assert collect_command(f"outputs={outputs}", f"results={results}") == 0
    for path in (results / "pictures").glob("*.png"):
        path.write_bytes(b"another")
        assert "is damaged" in collect_command("run=a", f"to={tmp_path}", f"results={results}")
