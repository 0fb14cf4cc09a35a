"""The command that compares tools."""

import sys

import pytest

from experiments import other_tools


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("tools=tvm", "there is no tool 'tvm'"),
        ("networks=imagenet/resnet18", "of the bundled zoo"),
        ("seeds=a", "invalid literal"),
        ("rum=a", "unknown argument"),
    ],
)
def test_bad_arguments(monkeypatch, tmp_path, argument, said):
    monkeypatch.setattr(sys, "argv", ["other_tools", argument, f"results={tmp_path}"])
    with pytest.raises(SystemExit, match=said):
        other_tools.main()
