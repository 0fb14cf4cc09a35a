"""A sweep that is killed again and again ends with the records of one that was left alone, and with no leftovers."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.paths import DATA, ROOT

KILLS, PROCESSES = 20, 2
SWEEP = ("-m", "method=gaussian", "bits=w8a8,w4a8,mp4a8", "seed=0,1", "distill.count=2", "tracker=offline")
# What a machine and a moment decide.
OF_THE_MOMENT = ("seconds", "git_commit", "versions")


def started(outputs: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.run", *SWEEP, f"outputs={outputs}", f"data.root={DATA}"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **silent)


def records(outputs: Path) -> dict[str, dict]:
    found = {path.parent.name: json.loads(path.read_text()) for path in (outputs / "runs").glob("*/record.json")}
    return {run: {k: v for k, v in content.items() if k not in OF_THE_MOMENT} for run, content in found.items()}


@pytest.mark.slow
def test_twenty_kills_of_two_processes_change_nothing(tmp_path):
    assert started(tmp_path / "calm").wait() == 0
    chance, kills = random.Random(0), 0
    running = [started(tmp_path / "killed") for _ in range(PROCESSES)]
    while kills < KILLS:
        time.sleep(chance.uniform(2, 9))
        victim = chance.randrange(PROCESSES)
        if running[victim].poll() is None:
            # With all that it started, W&B's own process too.
            os.killpg(running[victim].pid, chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            running[victim].wait()
            kills += 1
        elif len(records(tmp_path / "killed")) == len(records(tmp_path / "calm")):
            for path in (tmp_path / "killed" / "runs").glob("*seed=1*/record.json"):
                path.unlink()  # as many kills as wanted, of runs that work
        running[victim] = started(tmp_path / "killed")
    assert [process.wait() for process in running] == [0] * PROCESSES
    assert started(tmp_path / "killed").wait() == 0
    expected = records(tmp_path / "calm")
    assert len(expected) == 6
    assert records(tmp_path / "killed") == expected
    assert not list((tmp_path / "killed" / "runs").glob(".*"))
    assert not list((tmp_path / "killed").rglob("*.partial"))
