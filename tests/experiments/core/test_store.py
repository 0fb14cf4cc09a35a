"""Stages are stored under everything that determines them."""

import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from experiments.core.store import StageCache, claimed, fingerprint
from tests.command_line import QUICK


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
    shared = ("model=fashion/resnet18", "method=zeroq", "tracker=disabled", "force=true")
    quick = [setting for setting in QUICK if setting.partition("=")[0] not in "".join(arguments)]

    def stored() -> int:
        return len(list((outputs / "cache").glob(f"{stage}-*.pt")))

    assert command(*shared, *QUICK) == 0
    before = stored()
    assert command(*shared, *QUICK, "bits=w4a8") == 0
    assert stored() == before
    assert command(*shared, *quick, *arguments) == 0
    assert stored() == before + 1


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
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as workers:
        values = set(workers.map(slow_stage, [tmp_path] * 8))
    assert len(values) == 1


def hold(folder: Path) -> None:
    """Claim a name, say so, and never let go."""
    with claimed(folder, "name"):
        (folder / "claimed").touch()
        time.sleep(600)


def test_a_killed_process_holds_no_claim(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    process.start()
    while not (tmp_path / "claimed").exists():
        time.sleep(0.05)
    process.kill()
    process.join()
    with claimed(tmp_path, "name"):
        pass


def test_fingerprint_sees_one_changed_weight():
    network = torch.nn.Linear(3, 3)
    before = fingerprint(network)
    with torch.no_grad():
        network.weight[0, 0] += 1
    assert fingerprint(network) != before
