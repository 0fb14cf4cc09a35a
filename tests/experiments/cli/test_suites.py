"""Every experiment names runs that exist, and the shell knows them."""

import importlib.util
import re
import subprocess
import sys

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from experiments.analysis.collection import from_folders
from experiments.cli.arguments import grids_of
from experiments.core.choices import CONF, GROUPS, choices
from experiments.core.config import typed
from experiments.tables import tables
from tests.paths import RESULTS

NAMES = choices("experiment")
# Searches want a sweeper that requirements-sweeps.txt installs.
OPTUNA = importlib.util.find_spec("optuna") is not None


@pytest.mark.parametrize("name", [name for name in NAMES if OPTUNA or not name.startswith("search/")])
@pytest.mark.parametrize(
    "scale", [["data.root=/data"], ["scale=imagenet", "detector=coco/retinanet_resnet50", "data.root=/data"]]
)
def test_experiments_are_sweeps_over_what_there_is(name, scale):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", [f"experiment={name}", *scale], return_hydra_config=True)
        assert config.hydra.mode.name == "MULTIRUN"
        for grid in grids_of(config):
            first = []
            for override in OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in grid.items()]):
                values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
                # A list in quotes is one value of a search.
                word = "null" if values[0] is None else getattr(values[0], "text", str(values[0]).lower())
                first.append(f"{override.key_or_group}={word}")
                if override.key_or_group in GROUPS:
                    assert set(choices(override.key_or_group)).issuperset(map(str, values))
            typed(hydra.compose("config", [*scale, *first]))


def test_headers_state_command_cost_and_expectation():
    for name in NAMES:
        header = (CONF / "experiment" / f"{name}.yaml").read_text().partition("hydra:")[0]
        assert f"python -m experiments.run experiment={name}" in header
        assert "Cost: " in header
        assert "Expected" in header


def test_expected_scores_are_the_committed_ones():
    found = tables(from_folders(results=RESULTS))
    for name in NAMES:
        header = (CONF / "experiment" / f"{name}.yaml").read_text().partition("hydra:")[0]
        for line in re.findall(r"# Expected, ZeroQ: (.*) at the bundled scale", header):
            (table,) = (
                found[each] for each in found if re.fullmatch(f"paper-fashion-.*-{name.removeprefix('paper/')}", each)
            )
            frame = table.frame[table.frame.Method == "ZeroQ"]
            score = frame.iloc[:, 6].str.partition(" ")[0]
            means = dict(zip(frame["W-bit"] + "/A" + frame["A-bit"], score, strict=True))
            for bits, value in re.findall(r"(\w+/A\d) ([\d.]+)", line):
                assert means[bits.removeprefix("W")] == value, (name, bits)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("method=ze", {"method=zeroq", "method=zeroq+", "method=zeroq+dfq"}),
        ("model=fashion/resnet1", {"model=fashion/resnet18", "model=fashion/resnet152"}),
        ("experiment=search/", {"experiment=search/ranges"}),
        ("experiment=sweeps/s", {f"experiment=sweeps/{name}" for name in ("seeds", "size", "statistics")}),
        ("method=dfq bits.ac", {"bits.activation="}),
    ],
)
@pytest.mark.parametrize("folder", ["plain", r"with\ space", '"with space"'])
def test_bash_completes_settings_and_choices(typed, completed, folder, tmp_path):
    program = tmp_path / folder.replace("\\", "").strip('"') / "python"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    typed_program = f'"{program}"' if '"' in folder else str(program).replace(" ", r"\ ")
    line = f"{typed_program} -m experiments.run {typed}"
    script = f"""
        source experiments/cli/completion.bash
        COMP_LINE='{line}' COMP_WORDS=('{typed_program}' -m experiments.run {typed})
        COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
        _zeroq_complete
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    shell = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert set(shell.stdout.split()) == completed
