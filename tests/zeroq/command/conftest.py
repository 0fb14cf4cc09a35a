"""A folder with an engineer's module in it, and the command line run there."""

from pathlib import Path

import pytest

from zeroq.command.main import main

NETS = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )

network = build()

def plain():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

def wants(classes):
    return nn.Linear(3, classes)

def gives_none():
    return None

def breaks():
    raise RuntimeError("no such GPU")

class Breaks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        assert images.shape[2] == 64, "64 pixels, please"
"""


@pytest.fixture
def workplace(monkeypatch, tmp_path) -> Path:
    """A folder with spaces in its path, in which Python finds ``nets``."""
    folder = tmp_path / "my networks"
    folder.mkdir()
    (folder / "nets.py").write_text(NETS)
    (folder / "needs.py").write_text("import no_such_package")
    (folder / "wrong.py").write_text("def build(:")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    for name in ("nets", "needs", "wrong"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    return folder


@pytest.fixture
def zeroq_command(workplace, capsys):
    """Run a command line: its status, what it printed, and the sentence of its mistake."""

    def call(*words: str) -> tuple[int, str, str]:
        try:
            status = main(words)
        except SystemExit as ended:  # argparse's own
            status = ended.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call
