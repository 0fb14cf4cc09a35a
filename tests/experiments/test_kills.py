"""A sweep that is killed again and again ends with the records of one that was left alone, and with no leftovers."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.experiments.disks import disk
from tests.paths import DATA, ROOT

KILLS, KILLS_OF_FULL, PROCESSES = 20, 8, 2
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


def killed_at_random(
    outputs: Path, kills: int, expected: int, chance: random.Random, before_start=lambda: None
) -> None:
    """Two processes at one sweep, killed again and again, then left alone until they end."""
    done, running = 0, [started(outputs) for _ in range(PROCESSES)]
    while done < kills:
        time.sleep(chance.uniform(2, 9))
        victim = chance.randrange(PROCESSES)
        if running[victim].poll() is None:
            # With all that it started, W&B's own process too.
            os.killpg(running[victim].pid, chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
            running[victim].wait()
            done += 1
        elif len(records(outputs)) == expected:
            for path in (outputs / "runs").glob("*seed=1*/record.json"):
                path.unlink()  # as many kills as wanted, of runs that work
        before_start()
        running[victim] = started(outputs)
    for process in running:
        process.wait()


def check_as_undisturbed(outputs: Path, calm: Path) -> None:
    """Started once more, the sweep ends with the records of the one that was left alone, and with no leftovers."""
    assert started(outputs).wait() == 0
    expected = records(calm)
    assert len(expected) == 6
    assert records(outputs) == expected
    assert not list((outputs / "runs").glob(".*"))
    assert not list(outputs.rglob("*.partial"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """The outputs of a sweep that nothing disturbs."""
    outputs = tmp_path_factory.mktemp("calm")
    assert started(outputs).wait() == 0
    return outputs


@pytest.mark.slow
def test_twenty_kills_of_two_processes_change_nothing(tmp_path, calm):
    killed_at_random(tmp_path, KILLS, len(records(calm)), random.Random(0))
    check_as_undisturbed(tmp_path, calm)


@pytest.mark.slow
def test_nor_does_a_disk_that_fills_and_is_given_room(tmp_path, calm):
    """Without kills first: what fits is done, the rest fails and says so; then with kills while it is full or not."""
    with disk(tmp_path / "outputs", "200k") as small:
        for process in [started(small.folder) for _ in range(PROCESSES)]:
            assert process.wait() == 1
        found = records(small.folder)
        assert len(found) < 6
        assert found.items() <= records(calm).items()
        assert not list((small.folder / "runs").glob(".*"))
        assert not list(small.folder.rglob("*.partial"))
        chance = random.Random(1)
        sizes = itertools.cycle(["64m", "64m", "1m"])
        killed_at_random(small.folder, KILLS_OF_FULL, 6, chance, lambda: small.resize(next(sizes)))
        small.resize("64m")
        check_as_undisturbed(small.folder, calm)
