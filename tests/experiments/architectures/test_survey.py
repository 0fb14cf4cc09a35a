"""The survey of architectures: its list, a row, its table, and what is done already."""

import sys

import pytest
import torch
from torch import nn

from experiments import survey as command
from experiments.architectures import surveyed
from experiments.architectures.listed import MAKERS, architectures, made
from experiments.architectures.table import add, rows_of, summary, table
from tests.paths import RESULTS


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.norm(self.first(x))))).mean((2, 3)))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(MAKERS, "timm", lambda name: Small())


def test_what_is_listed():
    listed = architectures()
    assert len(listed) > 116
    assert {name.partition(":")[0] for name in listed} == set(MAKERS)
    assert all(side % 32 == 0 for side in listed.values())


def test_statistics_are_those_of_images(small):
    norm = made("timm:small", 32).norm
    assert norm.running_mean.abs().max() > 0.01


def test_a_row(small):
    row = surveyed.survey("timm:small", 32)
    assert row["layers"] == 3
    assert row["untouched"]
    assert row["zero_shot"] == row["dfq"] == "done"
    assert row["integer"]["float_layers"] == {}
    assert row["integer"]["file_from_integers"] < 1e-5
    assert row["integer"]["file_from_float"] < 0.05


def test_a_refusal_is_its_sentence_and_a_fault_none(monkeypatch):
    class Branching(Small):
        def forward(self, x):
            return super().forward(x if x.sum() > 0 else -x)

    monkeypatch.setitem(MAKERS, "timm", lambda name: Branching())
    assert surveyed.survey("timm:small", 32)["integer"]["error"].startswith("the network cannot be traced")
    assert surveyed.outcome(lambda: int("x"))["fault"].startswith("ValueError: invalid literal")


def test_the_table(tmp_path):
    integer = {"float_layers": {"head": "why"}, "first_difference": None}
    integer |= {"file_from_integers": 2e-7, "file_from_float": 0.01}
    rows = [
        {"zero_shot": "done", "integer": integer, "dfq": "done", "untouched": True},
        {"zero_shot": {"error": "no"}, "integer": {"error": "no"}, "dfq": {"fault": "E: x"}, "untouched": True},
    ]
    for number, row in enumerate(rows):
        row |= {"architecture": f"timm:{number}", "side": 64, "layers": 3}
        add(tmp_path, row)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"architecture": "cut o')
    rows = rows_of(tmp_path)
    assert "| timm:0         | 64     | yes         | 2 of 3    | 2e-07  | yes   |" in table(rows).markdown()
    assert "| timm:1         | 64     | refused     | refused   | –      | fault |" in table(rows).markdown()
    counts = summary(rows)
    assert (counts["architectures"], counts["exported"], counts["files equal"], counts["faults"]) == (2, 1, 1, 1)


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(command.subprocess, "run", lambda arguments, **words: ran.append(arguments) or Failed())
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["survey", "only=timm:resnet18", f"results={tmp_path}"])
        command.main()
    assert len(ran) == 1
    assert rows_of(tmp_path / "architectures")[0]["dfq"] == {"fault": "Killed"}
    assert "3 faults" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["survey", "only=timm:nothing"])
    with pytest.raises(SystemExit, match="no architecture 'timm:nothing'"):
        command.main()


class Failed:
    returncode, stderr = 137, "Killed"


def test_what_is_committed_is_of_what_is_listed():
    rows = rows_of(RESULTS / "architectures")
    assert {row["architecture"]: row["side"] for row in rows} == architectures()
    assert all(row["untouched"] for row in rows)
    assert summary(rows)["faults"] == 0
    table_of_them = (RESULTS / "architectures" / "table.md").read_text()
    assert table(rows).markdown() == table_of_them
