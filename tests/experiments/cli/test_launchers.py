"""The launchers and the sweeper that requirements-sweeps.txt installs, each for real."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.core.record import read_record
from tests.command_line import QUICK, only_runs
from tests.paths import ROOT

SWEEP = ["-m", "tracker=disabled", *QUICK, "model=fashion/resnet18", "method=naive,zeroq", "bits=w8a8,mp4a8"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("optuna") is None, reason="needs requirements-sweeps.txt"),
]


def start(outputs: Path, *arguments: str) -> subprocess.Popen:
    """The command line in processes of their own, each on one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.run", f"outputs={outputs}", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("launcher", ["basic", "processes", "submitit_here", "cluster"])
def test_a_sweep_with_one_failure(launcher, tmp_path):
    process = start(tmp_path, f"hydra/launcher={launcher}", *SWEEP, "bits.activation=8,1")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "8 runs: 4 done, 4 failed" in output
    assert output.count("bits must be 2…8, or 32 for float, not 1") >= 4
    assert len(only_runs(tmp_path)) == 4
    again = start(tmp_path, f"hydra/launcher={launcher}", *SWEEP)
    assert "4 runs: 4 skipped" in again.communicate()[0]
    assert again.returncode == 0


def workers(process: subprocess.Popen) -> list:
    """The processes in which a launcher does runs: those that have torch loaded."""
    import psutil

    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if any("libtorch_cpu" in each.path for each in child.memory_maps()):
                found.append(child)
    return found


@pytest.mark.parametrize("launcher", ["processes", "submitit_here"])
def test_a_sweep_whose_worker_is_killed_says_so_and_goes_on(launcher, tmp_path):
    process = start(tmp_path, f"hydra/launcher={launcher}", *SWEEP)
    while not list((tmp_path / "runs").glob(".partial*")):  # until a worker is in the middle of a run
        time.sleep(0.1)
    for worker in workers(process):
        worker.kill()
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "the process that did it died" in output
    again = start(tmp_path, f"hydra/launcher={launcher}", *SWEEP)
    assert "4 runs: " in again.communicate()[0]
    assert again.returncode == 0
    assert len(only_runs(tmp_path)) == 4  # and nothing half there
    assert all((tmp_path / "runs" / name / "record.json").exists() for name in only_runs(tmp_path))


@pytest.mark.parametrize(("objective", "best"), [("divergence", min), ("value", max)])
def test_a_search_takes_the_best_of_its_runs(objective, best, tmp_path):
    import optuna

    direction = {min: "minimize", max: "maximize"}[best]
    settings = ["experiment=search/ranges", f"objective={objective}", f"hydra.sweeper.direction={direction}"]
    settings += ["tracker=disabled", *QUICK, "hydra.sweeper.n_trials=4"]
    process = start(tmp_path, *settings)
    output, _ = process.communicate()
    assert process.returncode == 0
    assert "the best of 4 trials: " in output
    storage = f"sqlite:///{tmp_path}/cache/search.db"
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    records = [read_record(folder) for folder in (tmp_path / "runs").iterdir()]
    assert study.best_value == best(record[objective] for record in records)
