"""Sweeps: what is done and left, what failed, and what survives being killed."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.cli import arguments
from experiments.core import once as runner
from tests.command_line import COUNT, QUICK, only_runs
from tests.paths import ROOT
from zeroq import ZeroQError

# A run's numbers that are the same every time.
CHANGING = ("seconds", "git_commit")


def test_a_listing_says_what_is_done_and_runs_nothing(command, outputs, quick_scores, capsys):
    quick = (*COUNT, "tracker=disabled", "model=fashion/resnet18", "method=gaussian")
    assert command(*quick, "bits=w8a8") == 0
    before = only_runs(outputs)
    capsys.readouterr()
    assert command("-m", "--list", *quick, "bits=w8a8,w4a8,w4a4") == 0
    plain = "fashion-resnet18,gaussian,{},seed=0,distill.count=2"
    done, *left, total = capsys.readouterr().out.splitlines()
    assert done == "done  " + plain.format("w8a8")
    assert left == ["left  " + plain.format(bits) for bits in ("w4a8", "w4a4")]
    assert total == "3 runs: 1 done, 2 left"
    assert only_runs(outputs) == before
    assert command("--list", *quick, "bits=w4a8") == 0
    assert capsys.readouterr().out.splitlines() == [left[0]]


def test_a_failed_run_is_a_line_of_the_summary(command, outputs, quick_scores, capsys):
    bits = ("bits=w8a8", "bits.weight=8,1,4", "tracker=disabled", "method=naive", "model=fashion/resnet18")
    assert command("-m", *bits) == 1
    *_, total, failed = capsys.readouterr().out.splitlines()
    assert total == "3 runs: 2 done, 1 failed"
    assert failed.startswith("  failed ")
    assert failed.endswith(": bits must be 2…8, or 32 for float, not 1.0")
    assert list((outputs / "cache" / "sweeps").iterdir()) == []


def test_an_interrupted_sweep_says_what_is_left(command, outputs, monkeypatch, capsys):
    calls = []

    def execute(settings, name, others):
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return runner.Skipped("")

    monkeypatch.setattr(runner, "execute", execute)
    assert "interrupted" in command("-m", "method=naive", "bits=w8a8,w6a6,w4a8,w4a4", "tracker=disabled")
    assert capsys.readouterr().out.splitlines()[-1] == "4 runs: 1 skipped, 1 interrupted, 2 left"


def test_missing_data_are_said_once_and_a_listing_needs_none(command, outputs, monkeypatch, capsys):
    monkeypatch.setattr(runner, "execute", lambda *arguments: pytest.fail("a run was begun"))
    experiment = ("experiment=paper/resnet50", "scale=imagenet")
    assert "data.root is missing" in command(*experiment)
    assert "is no folder" in command(*experiment, "data.root=/nowhere")
    capsys.readouterr()
    assert command(*experiment, "--list") == 0
    *runs, total = capsys.readouterr().out.splitlines()
    assert total == "36 runs: 36 left"
    assert runs[0] == "left  imagenet-resnet50,naive,w8a8,seed=0"


def test_a_listing_names_runs_as_they_are_recorded(command, outputs, monkeypatch, capsys):
    """The list composes no config where it need not; the runs compose theirs."""
    names = []
    monkeypatch.setattr(runner, "execute", lambda settings, name, others: names.append(name) or runner.Skipped(""))
    sweep = ["method=dfq,zeroq", "bits=w8a8,mp4a8", "seed=3", "method.per_channel=true,false", "percentile=null"]
    sweep += ["model=timm", "model.name=resnet18", "data=cifar10", "distill=bounded,paper", "placement=layer_inputs"]
    command("-m", *sweep)
    capsys.readouterr()
    command("-m", "--list", *sweep)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[:-1]] == names
    assert len(names) == 16


def test_a_run_is_the_same_alone_and_in_a_sweep_with_settings_of_others(command, outputs, quick_scores, tmp_path):
    """Its name, its record and its config."""
    words = ("tracker=disabled", "model=fashion/resnet18", "bits=w5a8")
    assert command("-m", *words, "method=naive,gaussian", "distill.count=2", "sensitivity=estimated") == 0
    assert command(*words, "method=naive", f"outputs={tmp_path}") == 0
    name = "fashion-resnet18,naive,w5a8,seed=0"
    one, other = (folder / "runs" / name for folder in (outputs, tmp_path))
    records = [json.loads((folder / "record.json").read_text()) for folder in (one, other)]
    assert {**records[0], "seconds": 0} == {**records[1], "seconds": 0}
    assert records[0]["settings"] == {}
    configs = [(folder / "config.yaml").read_text().replace(str(folder.parents[1]), "") for folder in (one, other)]
    assert configs[0] == configs[1]


SPELLED = ["data.name=fashion-scenes", "data.name=fashion-mnist", "percentile=99"]


@pytest.mark.parametrize("setting", SPELLED)
def test_a_listing_spells_as_records_do(command, outputs, monkeypatch, capsys, setting):
    names = []
    monkeypatch.setattr(runner, "execute", lambda settings, name, others: names.append(name) or runner.Skipped(""))
    command("-m", "model=fashion/retinanet", setting)
    capsys.readouterr()
    command("-m", "--list", "model=fashion/retinanet", setting)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[:-1]] == names
    assert not names[0].endswith("percentile=99")


def test_training_images_are_looked_for_where_a_method_needs_them(command, tmp_path):
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text("{}")
    words = ("-m", "model=coco/retinanet_resnet50", f"++data.root={tmp_path}", "method=naive,real")
    assert "train2017" in command(*words)


def test_an_experiment_sets_nothing_that_its_runs_are_not_named_after(monkeypatch, tmp_path):
    (tmp_path / "experiment").mkdir()
    hidden = "percentile: 99.9\noutputs: elsewhere\nhydra: {mode: MULTIRUN}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(hidden)
    monkeypatch.setattr(arguments, "CONF", tmp_path)
    with pytest.raises(ZeroQError, match=r"sets percentile beside its runs; put it under hydra.sweeper.params"):
        arguments.check_experiment(["experiment=mine"])


@pytest.mark.parametrize(
    "words", [("experiment=paper/retinanet", "scale=imagenet"), ("-m", "detector=coco/x", "seed=1")]
)
def test_a_scale_that_nothing_depends_on_is_a_mistake(command, words):
    assert "does not depend on" in command(*words)


def sweep(outputs: Path) -> subprocess.Popen:
    """A sweep of eight small runs in a process group of its own."""
    command = [sys.executable, "-m", "experiments.run", "-m", f"outputs={outputs}", "tracker=disabled", *QUICK]
    command += ["model=fashion/resnet18,fashion/mobilenetv2", "method=naive,zeroq", "bits=w8a8,mp4a8"]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)


def numbers(outputs: Path) -> dict[str, dict]:
    """Every record but for what changes from run to run."""
    found = {}
    for path in sorted((outputs / "runs").glob("[!.]*/record.json")):
        content = json.loads(path.read_text())
        found[path.parent.name] = {key: value for key, value in content.items() if key not in CHANGING}
    return found


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_full_disk(tmp_path):
    """A limit on the size of files stands for the disk: the write that crosses it fails half way, as on a full one."""

    def run(bits: str, *, bytes_left: int = resource.RLIM_INFINITY) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "experiments.run", "-m", f"outputs={tmp_path}", "tracker=disabled"]
        return subprocess.run(
            # Its many layers make a record longer than what Hydra writes of a sweep.
            [*command, "model=fashion/inceptionv3", "method=naive", f"bits={bits}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, resource.RLIM_INFINITY)),
        )

    stage = run("w8a8", bytes_left=10_000)  # less than the float network's predictions take
    assert stage.returncode == 1
    assert "1 run: 1 failed" in stage.stdout
    assert "cannot write to" in stage.stdout
    assert run("w8a8").returncode == 0
    (done,) = only_runs(tmp_path)
    written = (tmp_path / "runs" / done / "record.json").stat()
    record = run("w8a8,w4a8", bytes_left=written.st_size - 500)  # their numbers have more or fewer digits
    assert record.returncode == 1
    assert "2 runs: 1 skipped, 1 failed" in record.stdout
    assert "File too large" in record.stdout
    nothing = run("w8a8,w4a8", bytes_left=100)  # not even for what Hydra writes
    assert nothing.returncode == 1
    assert nothing.stderr.startswith("error: cannot write to")
    assert only_runs(tmp_path) == {done}
    assert run("w8a8,w4a8").returncode == 0
    assert len(numbers(tmp_path)) == len(only_runs(tmp_path)) == 2
    assert (tmp_path / "runs" / done / "record.json").stat().st_mtime_ns == written.st_mtime_ns


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_random_ends_with_the_same_records(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert sweep(undisturbed).wait() == 0
    chance = random.Random(0)
    for _ in range(20):
        process = sweep(killed)
        time.sleep(chance.uniform(1, 20))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert numbers(killed).items() <= numbers(undisturbed).items()
    assert sweep(killed).wait() == 0
    assert numbers(killed) == numbers(undisturbed)
    assert len(numbers(killed)) == 8
    assert [path for path in (killed / "runs").iterdir() if path.name.startswith(".")] == []
