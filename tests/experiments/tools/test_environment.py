"""Environments of their own: made once, and again for other requirements. pip is not run."""

import subprocess
from types import SimpleNamespace

import pytest

from experiments.tools import environment
from experiments.tools.environment import python_of
from zeroq.errors import ZeroQError


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The commands that would have been run, in a folder with one requirements file."""
    commands = []
    (tmp_path / "requirements-mct.txt").write_text("a==1\n")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment.venv, "create", lambda place, **_: place.mkdir(parents=True, exist_ok=True))
    run = SimpleNamespace(
        run=lambda command, **_: commands.append(command), CalledProcessError=subprocess.CalledProcessError
    )
    monkeypatch.setattr(environment, "subprocess", run)
    return commands


def test_it_is_made_once(installed, tmp_path):
    place = tmp_path / "environments"
    assert python_of("mct", place) == python_of("mct", place) == place / "mct" / "bin" / "python"
    assert [command[-1] for command in installed] == [tmp_path / "requirements-mct.txt"]


def test_it_is_made_again_for_other_requirements(installed, tmp_path):
    python_of("mct", tmp_path / "environments")
    (tmp_path / "requirements-mct.txt").write_text("a==2\n")
    python_of("mct", tmp_path / "environments")
    assert len(installed) == 2


@pytest.mark.usefixtures("installed")
def test_what_pip_cannot_install_is_tried_again(monkeypatch, tmp_path):
    def fails(command, **_):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(environment.subprocess, "run", fails)
    for _ in range(2):
        with pytest.raises(ZeroQError, match=r"pip cannot install requirements-mct\.txt"):
            python_of("mct", tmp_path / "environments")
