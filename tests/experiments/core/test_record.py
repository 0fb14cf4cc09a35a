"""A record is there whole or not at all."""

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from experiments.core import record


def test_json_is_written_whole_or_not_at_all(monkeypatch, tmp_path):
    def interrupted(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:5])
        raise KeyboardInterrupt

    record.write_json(tmp_path / "entry.json", {"top1": 90.0})
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            record.write_json(tmp_path / "entry.json", {"top1": 91.0})
    assert [path.name for path in tmp_path.iterdir()] == ["entry.json"]
    assert json.loads((tmp_path / "entry.json").read_text()) == {"top1": 90.0}


def test_force_replaces_the_record(tmp_path):
    for content in ("first", "second"):
        with record.record_folder(tmp_path, "name") as folder:
            (folder / "record.json").write_text(content)
    assert [path.name for path in tmp_path.iterdir()] == ["name"]
    assert (tmp_path / "name" / "record.json").read_text() == "second"


def test_failed_write_leaves_nothing(tmp_path):
    def write_half():
        with record.record_folder(tmp_path, "name") as folder:
            (folder / "record.json").write_text("{")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    def half() -> None:
        with record.record_folder(tmp_path, "name") as folder:
            (folder / "record.json").write_text("half")
            os._exit(9)

    process = multiprocessing.get_context("fork").Process(target=half)
    process.start()
    process.join()
    assert [path.name[:8] for path in tmp_path.iterdir()] == [".partial"]
    with record.record_folder(tmp_path, "name") as folder:
        assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


def test_a_run_that_was_killed_while_it_replaced_its_record(tmp_path):
    with record.record_folder(tmp_path, "name") as folder:
        (folder / "record.json").write_text("first")
        scratch = folder
    (tmp_path / "name").rename(scratch.with_name(f"{scratch.name}-old"))  # as it lies for a moment
    with pytest.raises(OSError, match="full"), record.record_folder(tmp_path, "name"):
        raise OSError("disk full")
    assert (tmp_path / "name" / "record.json").read_text() == "first"
