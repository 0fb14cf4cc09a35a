"""W&B costs no result: where it fails, hangs or is killed, the record is there, and a warning."""

import http.server
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas
import pytest
import wandb

from experiments.core import tracker

RECORD = {"value": 91.5, "seconds": {"distill": 1.0}, "plan": {"layer": 8}}
FINDINGS = tracker.Findings([3.0, 2.0], pandas.DataFrame({8: [0.1]}, index=["layer"]), None, None)
KEY = "0" * 40


@dataclass
class TrackerWords:
    mode: str = "online"
    project: str = "zeroq"
    entity: str | None = None


@dataclass
class Words:
    outputs: Path
    tracker: TrackerWords = field(default_factory=TrackerWords)


@pytest.fixture(autouse=True)
def in_order(monkeypatch):
    monkeypatch.setattr(tracker, "_out_of_order", threading.Event())
    monkeypatch.setenv("WANDB_API_KEY", KEY)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Of a run whose record is in place."""
    (folder := tmp_path / "runs" / "run").mkdir(parents=True)
    return folder


@pytest.fixture
def silent_server():
    """An address at which connections are taken and nothing is said."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def failing_server():
    """A server that answers 500."""

    class Failing(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_error(500)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def tracked(folder: Path, mode: str = "online") -> None:
    tracker.track(Words(folder.parents[1], TrackerWords(mode)), folder.name, folder, RECORD, FINDINGS)


@pytest.mark.parametrize("address", ["silent_server", "failing_server", None])
def test_a_server_that_hangs_fails_or_refuses_costs_some_seconds_once(address, folder, request, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_BASE_URL", request.getfixturevalue(address) if address else "http://127.0.0.1:9")
    monkeypatch.setattr(tracker, "UPLOADING", 4)
    started = time.perf_counter()
    tracked(folder)
    assert time.perf_counter() - started < 4 + tracker.WRITING
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: W&B does not take run" in said
    assert "upload it later: python -m experiments.sync" in said
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1
    # The next one is not told, and nothing is said again.
    tracked(folder)
    assert capsys.readouterr().out == ""
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1


def test_what_hangs_while_it_writes_is_left(folder, monkeypatch, capsys):
    monkeypatch.setattr(tracker, "WRITING", 0.2)
    monkeypatch.setattr(wandb, "init", lambda **words: time.sleep(2))
    tracked(folder, "offline")
    assert "no answer for 0.2 s" in capsys.readouterr().out


@pytest.mark.parametrize("error", [OSError("Read-only file system"), wandb.Error("odd"), KeyError("x")])
def test_whatever_it_raises_is_a_warning(error, folder, monkeypatch, capsys):
    def init(**words):
        raise error

    monkeypatch.setattr(wandb, "init", init)
    tracked(folder, "offline")
    assert "its record is whole" in " ".join(capsys.readouterr().out.split())


def test_its_own_process_may_be_killed(folder, monkeypatch, capsys):
    monkeypatch.setattr(tracker, "WRITING", 8)
    original = wandb.Table

    def killing(*arguments, **words):
        for path in Path("/proc").glob("[0-9]*/status"):
            status = path.read_text()
            if f"PPid:\t{os.getpid()}\n" in status and "wandb" in status.splitlines()[0]:
                os.kill(int(path.parent.name), signal.SIGKILL)
        return original(*arguments, **words)

    monkeypatch.setattr(wandb, "Table", killing)
    tracked(folder, "offline")
    assert "warning: W&B does not take run" in " ".join(capsys.readouterr().out.split())
