"""Stages are stored under everything that determines them."""

import io
import multiprocessing
import platform
import random
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from experiments.core import store
from experiments.core.store import StageCache, fingerprint, locked
from tests.command_line import QUICK
from zeroq.errors import ZeroQError

QUICK_RUN = ("model=fashion/resnet18", "method=zeroq", "tracker=disabled")


def stored(outputs: Path, stage: str) -> int:
    """How many results of a stage lie in the cache."""
    return len(list((outputs / "cache").glob(f"{stage}-*.stage")))


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
        ("sensitivity", ["weight_range=min_max"]),
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


def flipped(content: bytes) -> bytes:
    """With one bit of a number changed."""
    place = content.index(torch.tensor([94.33]).numpy().tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def of_another_stage(content: bytes) -> bytes:
    """What torch.save writes of something else."""
    torch.save({"other": 1}, written := io.BytesIO())
    return written.getvalue()


@pytest.mark.parametrize("damage", [flipped, of_another_stage, lambda content: content[:100], lambda content: b""])
def test_a_damaged_cache_file_is_computed_again(damage, tmp_path, capsys):
    stages = StageCache(tmp_path)
    score = torch.tensor([94.33])
    assert stages.get({"stage": "x"}, lambda: score)[0] == score
    assert stages.get({"stage": "x"}, lambda: score + 1)[0] == score
    assert capsys.readouterr().out == ""
    (path,) = tmp_path.glob("*.stage")
    path.write_bytes(damage(path.read_bytes()))
    assert stages.get({"stage": "x"}, lambda: score + 2)[0] == score + 2
    assert "is damaged; the stage is computed again" in " ".join(capsys.readouterr().out.split())
    assert stages.get({"stage": "x"}, lambda: score)[0] == score + 2


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ZeroQError, match=r"cannot write to .* \(No space left on device\)"):
        StageCache(tmp_path).get({"stage": "x"}, lambda: 1)
    assert not list(tmp_path.glob("*x-*"))


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


def test_who_waits_says_for_whom(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(store, "PATIENCE", 0.1)
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    process.start()
    while not (tmp_path / "locked").exists():
        time.sleep(0.05)
    threading.Timer(1, process.kill).start()
    with locked(tmp_path, "name"):
        pass
    said = " ".join(capsys.readouterr().out.split())
    assert f"name: waiting for process {process.pid} on {platform.node()}, which is at it" in said


def test_fingerprint_sees_one_changed_weight():
    network = torch.nn.Linear(3, 3)
    before = fingerprint(network)
    with torch.no_grad():
        network.weight[0, 0] += 1
    assert fingerprint(network) != before
