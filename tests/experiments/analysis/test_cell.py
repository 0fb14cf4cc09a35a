"""What is written of a table: whole files, no formulas, no cells that end early."""

import csv
import io
import resource
import signal
import sys

import pytest

from experiments import tables as command
from experiments.analysis.cell import Table, frame_of
from experiments.cli.words import remove_others
from experiments.core.collecting import unpack
from tests.paths import RESULTS
from zeroq.whole import write_whole

NAME = "fashion-resnet18,naive,w4a8,seed=0,method.per_channel=true"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+cmd", "'+1+cmd"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("-0.31", "-0.31"),
        ("+4", "+4"),
        ("-3.5 ± 0.2 (3)", "-3.5 ± 0.2 (3)"),
        ("zeroq+", "zeroq+"),
        ("–", "–"),
    ],
)
def test_no_cell_is_a_formula(text, written):
    (_, (cell,)) = csv.reader(io.StringIO(Table("title", frame_of([{"Method": text}])).csv()))
    assert cell == written


def test_no_text_ends_a_cell_of_markdown_or_is_html():
    text = "a|b\n<script>c</script>"
    table = Table("title", frame_of([{"Method": text, text: "1"}]), notes=(text,))
    lines = table.markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 3
    assert {line.replace(r"\|", "").count("|") for line in rows} == {3}
    assert "<script" not in table.markdown()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "table.md"
    write_whole(path, "before")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # what is longer fails, as on a full disk
    try:
        with pytest.raises(OSError, match="too large"):
            write_whole(path, "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [each.name for each in tmp_path.iterdir()] == ["table.md"]
    assert path.read_text() == "before"


def test_a_disk_that_is_full_is_one_sentence(tmp_path, monkeypatch):
    unpack(RESULTS, NAME, tmp_path / "runs")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    monkeypatch.setattr(sys, "argv", ["tables", f"outputs={tmp_path}"])
    with pytest.raises(SystemExit, match=r"error: cannot write .* \(No space left on device\)"):
        command.main()
    assert list((tmp_path / "tables").iterdir()) == []


def test_only_what_a_program_made_is_removed(tmp_path, capsys):
    for name in ("old.md", "new.md", "notes.md"):
        (tmp_path / name).write_text("text")
    remove_others(tmp_path, ["old", "new"], [".md"])
    remove_others(tmp_path, ["new"], [".md"])
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"new.md", "notes.md"}
    assert "1 files were removed" in capsys.readouterr().out
    (tmp_path / ".made").write_text("../outside.md\n")
    (tmp_path.parent / "outside.md").write_text("text")
    remove_others(tmp_path, [], [".md"])
    assert (tmp_path.parent / "outside.md").exists()
