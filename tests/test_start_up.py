"""What a program imports as it starts: a large library only where something uses it."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zeroq
from tests.paths import ROOT

LARGE = {"wandb", "pandas", "matplotlib", "timm", "pytorchcv", "pycocotools", "torchvision", "torch"}
COMMAND_LINE = "import runpy; runpy.run_module('experiments.run', run_name='__main__', alter_sys=True)"


def imported(program: str, *arguments: str, **environment: str) -> tuple[set[str], str]:
    """The packages that a process of its own has imported when it ends, and what it printed."""
    at_exit = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
    ended = subprocess.run(
        [sys.executable, "-c", at_exit + program, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    return {name.partition(".")[0] for name in ended.stderr.splitlines()[-1].split()}, ended.stdout + ended.stderr


def test_the_library_imports_what_is_used():
    packages, _ = imported("import zeroq")
    assert "zeroq" in packages
    assert not packages & {*LARGE, "hydra", "omegaconf"}
    packages, _ = imported("from zeroq import distill, quantize, calibrate")
    assert packages & LARGE == {"torch"}
    packages, _ = imported("from zeroq import *")
    assert packages & {*LARGE, "hydra", "omegaconf"} == {"torch", "torchvision", "pandas"}


def test_every_public_name_is_what_its_module_defines():
    for name in zeroq.__all__:
        value = getattr(zeroq, name)
        assert value.__name__ == name  # and no module, whose name would have dots
    assert set(dir(zeroq)) >= set(zeroq.__all__)
    with pytest.raises(AttributeError, match="quantise"):
        zeroq.quantise  # noqa: B018


def test_type_checkers_see_the_same_names():
    stub = ast.parse(Path(zeroq.__file__).with_suffix(".pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    names = {(f"zeroq.{node.module}", each.name, each.asname) for node in imports for each in node.names}
    assert names == {(getattr(zeroq, name).__module__, name, name) for name in zeroq.__all__}


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--help"], {}, "Every setting and its default"),
        (["-sc", "query=bash"], {"COMP_LINE": "python run.py bits.ac"}, "bits.activation="),
        (["bits.wieght=4"], {}, "did you mean bits.weight?"),
    ],
    ids=["help", "completion", "mistake"],
)
def test_the_command_line_answers_without_a_large_library(arguments, environment, said):
    packages, output = imported(COMMAND_LINE, *arguments, **environment)
    assert said in output
    assert "hydra" in packages
    assert not packages & LARGE


def test_a_listing_needs_no_library_of_networks(tmp_path):
    packages, output = imported(COMMAND_LINE, "-m", "--list", "bits=w8a8,w4a8", f"outputs={tmp_path}")
    assert "2 runs: 2 left" in output
    assert packages & LARGE <= {"torch"}
