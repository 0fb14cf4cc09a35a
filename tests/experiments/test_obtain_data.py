"""The command that obtains Fashion-MNIST."""

import sys
from pathlib import Path

import pytest

from experiments import obtain_data
from tests.paths import DATA
from zeroq.errors import ZeroQError


def test_data_that_are_there_are_found(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["obtain_data", str(DATA)])
    obtain_data.main()
    assert capsys.readouterr().out == f"Fashion-MNIST is in {DATA}\n"


def test_a_source_that_does_not_answer_is_one_sentence(monkeypatch):
    def obtain(folder: Path) -> None:
        raise ZeroQError(f"no source has the files for {folder}")

    monkeypatch.setattr(obtain_data, "obtain", obtain)
    monkeypatch.setattr(sys, "argv", ["obtain_data"])
    with pytest.raises(SystemExit, match="error: no source has the files for data"):
        obtain_data.main()
