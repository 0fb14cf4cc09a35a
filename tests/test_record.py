"""A record is there whole or not at all."""

import pytest

from experiments import record


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
