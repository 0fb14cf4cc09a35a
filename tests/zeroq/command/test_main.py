"""The command line itself: help, extras, and that nothing large is imported for it."""

import subprocess
import sys

from tests.paths import ROOT
from tests.test_start_up import LARGE, imported

SCREEN = (80, 24)  # columns, lines


def test_help_fits_on_a_screen(zeroq_command):
    status, printed, _ = zeroq_command("--help")
    assert status == 0
    lines = printed.splitlines()
    assert len(lines) <= SCREEN[1]
    assert "quantize" in printed
    assert "inspect" in printed


def test_help_is_there_without_a_large_library():
    packages, output = imported("import runpy; runpy.run_module('zeroq', run_name='__main__')", "quantize", "--help")
    assert "--size-mib" in output
    assert not packages & LARGE


def test_without_the_extra_a_sentence_says_what_to_install(zeroq_command, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    status, _, said = zeroq_command("inspect", "quantized.onnx")
    assert status == 2
    assert said == (
        'error: the command line needs rich, which is not installed; pip install "zeroq[cli]" (".[cli]" in a clone)\n'
    )


def test_python_m_zeroq_ends_with_the_status(tmp_path):
    command = [sys.executable, "-m", "zeroq", "inspect", str(tmp_path / "nothing.onnx")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ")
