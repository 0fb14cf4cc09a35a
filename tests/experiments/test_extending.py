"""A new method and a new recipe are a file and a YAML each: they run, and stand in tables and figures."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from tests.paths import DATA, ROOT

ADDED = {
    "zeroq/baselines/halved.py": '''
"""Weights of half their size, calibrated on noise."""

import copy

from zeroq.layers import weighted_layers
from zeroq.methods import Method


def halved(model, input_shape):
    changed = copy.deepcopy(model)
    for layer in weighted_layers(changed).values():
        layer.weight.data /= 2
    return changed


METHOD = Method("halved", images="gaussian", steps=halved)
''',
    "conf/method/halved.yaml": "defaults: [gaussian, _self_]\nname: halved\n",
    "zeroq/distillation/coarse.py": '''
"""One step of the published recipe, too long."""

from zeroq.distillation.published import distill
from zeroq.distillation.recipe import Recipe


def distill_coarsely(*arguments, learning_rate, **settings):
    return distill(*arguments, learning_rate=2 * learning_rate, **settings)


RECIPE = Recipe("coarse", distill_coarsely, iterations=1)
''',
    "conf/distill/coarse.yaml": "defaults: [published, _self_]\nrecipe: coarse\niterations: 2\ncount: 2\n",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A copy of the code and its configuration, with the new files."""
    copied = tmp_path_factory.mktemp("repository")
    for folder in ("zeroq", "experiments", "conf"):
        shutil.copytree(ROOT / folder, copied / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in ADDED.items():
        (copied / name).write_text(text.lstrip())
    return copied


def python(repository: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(repository), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", *arguments]
    ended = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_a_new_method_and_a_new_recipe_run_and_are_shown(repository):
    shared = ("experiments.run", f"data.root={DATA}", "tracker=disabled", "bits=mp4a8")
    assert "fashion-resnet18,halved,mp4a8,seed=0" in python(repository, *shared, "method=halved", "distill.count=2")
    assert "fashion-resnet18,zeroq,mp4a8,seed=0,distill=coarse" in python(repository, *shared, "distill=coarse")
    records = [json.loads(path.read_text()) for path in repository.glob("outputs/runs/*/record.json")]
    assert {(record["method"], record["settings"].get("distill")) for record in records} == {
        ("halved", None),
        ("zeroq", "coarse"),
    }
    assert all(record["quantized_weight_layers"] == 21 for record in records)

    python(repository, "experiments.tables", "outputs=outputs")
    python(repository, "experiments.figures", "outputs=outputs")
    scores = pandas.read_csv(repository / "outputs/tables/top1-fashion-mnist.csv")
    assert "halved" in scores.columns
    assert any("distill=coarse" in settings for settings in scores.Settings.dropna())
    drawn = {path.name for path in (repository / "outputs/figures").glob("*.png")}
    assert any("distill=coarse" in name and name.endswith("-loss.png") for name in drawn)
    assert any(name.endswith("images.png") for name in drawn)


def test_a_mistyped_one_is_one_sentence(repository):
    command = [sys.executable, "-m", "experiments.run", "method=halfed"]
    ended = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "did you mean halved?" in ended.stdout + ended.stderr
