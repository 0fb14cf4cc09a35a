"""Stages are stored under everything that determines them."""

import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from experiments.core.store import StageCache, fingerprint, locked
from tests.command_line import QUICK

QUICK_RUN = ("model=fashion/resnet18", "method=zeroq", "tracker=disabled")


def stored(outputs: Path, stage: str) -> int:
    """How many results of a stage lie in the cache."""
    return len(list((outputs / "cache").glob(f"{stage}-*.pt")))


def test_stages_are_shared_by_all_bits(command, outputs, quick_scores):
    assert command(*QUICK_RUN, *QUICK) == 0
    before = [stored(outputs, stage) for stage in ("distill", "sensitivity")]
    assert command(*QUICK_RUN, *QUICK, "bits=w4a8") == 0
    assert [stored(outputs, stage) for stage in ("distill", "sensitivity")] == before


@pytest.mark.parametrize(
    ("stage", "arguments"),
    [
        ("distill", ["seed=1"]),
        ("distill", ["distill.iterations=1"]),
        ("distill", ["distill.learning_rate=0.1"]),
        ("distill", ["distill.statistics=batch"]),
        ("sensitivity", ["sensitivity=estimated"]),
        ("sensitivity", ["sensitivity_direction=symmetric"]),
        ("sensitivity", ["symmetric=true"]),
        ("sensitivity", ["method.per_channel=false"]),
        ("sensitivity", ["bits.candidates=[3,8]"]),
    ],
)
def test_stages_are_shared_only_between_equal_settings(command, outputs, quick_scores, stage, arguments):
    quick = [setting for setting in QUICK if setting.partition("=")[0] not in "".join(arguments)]
    assert command(*QUICK_RUN, *QUICK) == 0  # skipped, where an earlier test did it
    before = stored(outputs, stage)
    assert command(*QUICK_RUN, *quick, *arguments) == 0
    assert stored(outputs, stage) == before + 1


def test_a_damaged_cache_file_is_computed_again(tmp_path):
    stages = StageCache(tmp_path)
    assert stages.get({"stage": "x"}, lambda: 1)[0] == 1
    assert stages.get({"stage": "x"}, lambda: 2)[0] == 1
    (path,) = tmp_path.glob("*.pt")
    path.write_bytes(path.read_bytes()[:100])
    assert stages.get({"stage": "x"}, lambda: 3)[0] == 3
    assert stages.get({"stage": "x"}, lambda: 4)[0] == 3


def slow_stage(folder: Path) -> float:
    """A stage that says who computed it, and takes long enough for others to come in between."""

    def compute() -> float:
        time.sleep(0.5)
        return random.SystemRandom().random()

    return StageCache(folder).get({"stage": "x"}, compute)[0]


def test_what_one_process_computes_others_wait_for(tmp_path):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as workers:
        values = set(workers.map(slow_stage, [tmp_path] * 4))
    assert len(values) == 1


def hold(folder: Path) -> None:
    """Claim a name, say so, and never let go."""
    with locked(folder, "name"):
        (folder / "locked").touch()
        time.sleep(600)


def test_a_killed_process_holds_no_claim(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    process.start()
    while not (tmp_path / "locked").exists():
        time.sleep(0.05)
    process.kill()
    process.join()
    with locked(tmp_path, "name"):
        pass


def test_fingerprint_sees_one_changed_weight():
    network = torch.nn.Linear(3, 3)
    before = fingerprint(network)
    with torch.no_grad():
        network.weight[0, 0] += 1
    assert fingerprint(network) != before
