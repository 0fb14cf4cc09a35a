"""What is tracked: code, texts and results, and nothing that a run left behind."""

import subprocess

import pytest

from tests.paths import ROOT

TOP = {"conf", "docs", "experiments", "results", "tests", "zeroq", ".ci", ".gitignore"}
TOP |= {"LICENSE", "Makefile", "README.md", "SECURITY.md", "pyproject.toml"}
TOP |= {"requirements.txt", "requirements-sweeps.txt", "requirements-tools.txt"}
TOP |= {"requirements-mct.txt", "requirements-aimet.txt"}
LARGEST = 5_000_000  # bytes; weights are the largest


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_nothing_lies_about():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    assert {path.relative_to(ROOT).parts[0] for path in files} <= TOP
    assert [path for path in files if path.is_file() and path.stat().st_size > LARGEST] == []
