"""A run's record: a folder that is there whole or not at all."""

import hashlib
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.analysis.columns import GRANULARITIES, METRICS
from zeroq.errors import ZeroQError

# Groups whose choice every name states, and overrides that do not change the result.
NAMED_GROUPS = ("model", "method", "bits")
SILENT_KEYS = ("force", "results", "tracker", "device", "data.root", "hydra", "objective")
SILENT_KEYS += ("experiment", "scale", "detector")  # an experiment is the runs that it names
# Settings whose 99 is 99.0.
REAL_NUMBERS = ("percentile", "distill.learning_rate", "bits.size_mib")
# Of the fields below; a program reads only its own.
SCHEMA = 1
STAGES = ("distill", "sensitivity", "allocate", "calibrate", "evaluate")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def is_number_or_none(value: Any) -> bool:
    """For what not every run measures."""
    return value is None or is_number(value)


def is_text(value: Any) -> bool:
    """Whether a value is text."""
    return isinstance(value, str)


def is_count(value: Any) -> bool:
    """Whether a value is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_list(value: Any) -> bool:
    """Whether a value is a list of text."""
    return isinstance(value, list) and all(map(is_text, value))


def is_dict_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A check for a dictionary of such values."""
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


# Each field of a record, and what it must be.
FIELDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("model", "dataset", "method", "placement", "device", "network"), is_text),
    **dict.fromkeys(("schema", "a_bits", "seed", "images"), is_count),
    **dict.fromkeys(("weight_layers", "quantized_weight_layers", "quantized_activations"), is_count),
    **dict.fromkeys(("size_mib", "fp32_size_mib", "mean_weight_bits", "value", "fp32_value"), is_number),
    **dict.fromkeys(("top5", "agreement", "distill_loss", "calibration_loss"), is_number_or_none),
    **dict.fromkeys(("gaussian_loss", "divergence"), is_number_or_none),
    **dict.fromkeys(("skipped_steps", "unreached_activations"), is_list),
    **dict.fromkeys(("settings", "versions"), is_dict_of(is_text)),
    **dict.fromkeys(("plan", "parameters"), is_dict_of(is_count)),
    "seconds": lambda value: is_dict_of(is_number)(value) and value.keys() == set(STAGES),
    "w_bits": lambda value: is_text(value) and re.fullmatch(r"(MP)?\d+(\.\d+)?", value) is not None,
    "granularity": lambda value: is_text(value) and value in GRANULARITIES,
    "metric": lambda value: is_text(value) and value in METRICS,
    "needs_data": lambda value: isinstance(value, bool),
    "git_commit": lambda value: value is None or is_text(value),
}
# What experiments.export adds.
DEPLOYMENT = {"simulated_value", "agreement", "weights_mib", "planned_weights_mib", "parameters_mib", "graph_mib"}
DEPLOYMENT |= {"convolutions", "integer_convolutions", "float_layers", "latency_ms", "versions"}
EXPORT_FIELDS: dict[str, Callable[[Any], bool]] = {
    "deployed_mib": is_number,
    "deployed_value": is_number,
    "deployment": lambda value: isinstance(value, dict) and value.keys() >= DEPLOYMENT,
}
PACKAGES = ("torch", "torchvision", "pytorchcv", "timm", "pycocotools", "numpy")


def other_settings(overrides: list[str], changed_value: Callable[[str, str], str | None]) -> dict[str, str]:
    """What a command line sets beyond model, method, bits and seed, in alphabetical order.

    ``changed_value`` gives the value of a (key, value as it was typed) as it is recorded, None for one that would be so
    anyway.
    """
    settings = {}
    for override in overrides:
        key, _, typed = override.lstrip("+~").partition("=")
        if key in (*NAMED_GROUPS, "seed", *SILENT_KEYS) or key.split(".")[0] in SILENT_KEYS:
            continue
        if (value := changed_value(key, typed)) is not None:
            settings[key] = value
    return dict(sorted(settings.items()))


def spelling(config: DictConfig, key: str) -> str:
    """The value of a setting as records spell it, however it was typed."""
    value = OmegaConf.select(config, key)
    plain = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
    if key in REAL_NUMBERS and isinstance(plain, int):
        plain = float(plain)
    return plain if isinstance(plain, str) else json.dumps(plain, separators=(",", ":"))


def run_name(choices: dict[str, str], settings: dict[str, str], seed: int) -> str:
    """A folder name made of the overrides: ``fashion-resnet18,zeroq,w8a8,seed=0`` and ``other_settings``.

    The order of the overrides does not matter, nor do those that cannot change the result.
    """
    parts = [choices[group] for group in NAMED_GROUPS] + [f"seed={seed}"]
    parts += [f"{key}={value}" for key, value in settings.items()]
    return ",".join(parts).replace("/", "-").replace(" ", "")


@contextmanager
def record_folder(runs: Path, name: str) -> Iterator[Path]:
    """A scratch folder that becomes ``runs/name`` when the block ends well, and vanishes when it does not.

    For one process at a time (``claimed``): what lies there from another is of one that was killed. Raises ZeroQError
    where ``runs`` cannot be written.
    """
    scratch = runs / f".partial-{hashlib.sha256(name.encode()).hexdigest()[:20]}"
    old = scratch.with_name(f"{scratch.name}-old")
    target = runs / name
    try:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    except OSError as error:
        raise ZeroQError(
            f"cannot write records to {runs} ({error.strerror}); choose another folder with results=…"
        ) from error
    try:
        yield scratch
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():  # force=true: the old record goes only when the new one is in its place
            target.rename(old)
        try:
            scratch.rename(target)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Indented JSON with a final newline, written whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(content, indent=2) + "\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_content(path: Path) -> Any:
    """What a ``record.json`` holds, or the exception where it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        return error


def flaw(content: Any) -> str | None:
    """Why a content is no record of this version; None where it is one."""
    if not isinstance(content, dict):
        return f"damaged: {content}" if isinstance(content, Exception) else "damaged: no dictionary"
    if content.get("schema") != SCHEMA:
        return f"schema {content.get('schema')}, this program reads {SCHEMA}"
    fields = FIELDS | EXPORT_FIELDS
    missing, unknown = FIELDS.keys() - content.keys(), content.keys() - fields.keys()
    parts = [f"{word} {', '.join(sorted(names))}" for word, names in (("lacks", missing), ("has", unknown)) if names]
    wrong = [name for name, fits in fields.items() if name in content and not fits(content[name])]
    parts += [f"has {json.dumps(content[name])} for {name}" for name in wrong]
    return " and ".join(parts) or None


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a run's folder; raises ZeroQError where it is damaged, or of another version."""
    content = read_content(folder / "record.json")
    if reason := flaw(content):
        raise ZeroQError(f"{folder / 'record.json'} cannot be used ({reason}); run it again with force=true")
    return {"run": folder.name, **content}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number can depend on."""
    return {"python": platform.python_version()} | {package: version(package) for package in PACKAGES}


def formatted(value: float, metric: str) -> str:
    """A value of this metric as tables show it: top-1 in percent, mean average precision as a share."""
    return f"{value:.3f}" if metric == "map" else f"{value:.2f}"


def git_commit() -> str | None:
    """The commit of the working tree, ``+`` behind it where files but results differ; None outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/results")
        return git("rev-parse", "HEAD") + ("+" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
