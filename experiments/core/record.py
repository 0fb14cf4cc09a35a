"""A run's record: a folder that is there whole or not at all."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from sys import float_info
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from omegaconf import DictConfig, OmegaConf

from experiments.core.setting_keys import REAL_NUMBERS, is_silent, setting_error
from zeroq.errors import ZeroQError
from zeroq.whole import write_whole

# Groups whose choice every name states.
NAMED_GROUPS = ("model", "method", "bits")
LONGEST_NAME = 200  # bytes; folders may have 255, and files beside them longer names
PLACEMENT = "layer_inputs"  # of a run that names none
# Of the fields of a record; a program reads only its own.
SCHEMA = 1

Metric = Literal["top1", "map"]
Granularity = Literal["per_channel", "per_tensor"]
# Names become files and words of a command line.
Name = Annotated[str, re.compile(r"[\w+][\w+.-]*")]
Label = Annotated[str, re.compile(r"[\w+][\w+.-]*(/[\w+][\w+.-]*)*")]


class Seconds(TypedDict):
    """What each stage took, in seconds, when it was computed."""

    distill: float
    sensitivity: float
    allocate: float
    calibrate: float
    evaluate: float


class Latencies(TypedDict):
    """Milliseconds an image in onnxruntime, and how many times as fast the quantized file is."""

    fp32: float
    quantized: float
    speedup: float


class Deployment(TypedDict):
    """What ``experiments.export`` found of a file; sizes in MiB."""

    simulated_value: float
    agreement: float | None
    weights_mib: float
    planned_weights_mib: float
    parameters_mib: float
    graph_mib: float
    convolutions: int
    integer_convolutions: int
    float_layers: int
    latency_ms: dict[str, Latencies]
    versions: dict[str, str]


class Grouped(TypedDict):
    """What the grouped search found: summed Ω and joint divergence in nats, beside those of the exact plan."""

    sensitivity: float
    divergence: float
    exact_sensitivity: float
    exact_divergence: float


class Record(TypedDict):
    """What ``record.json`` holds: the one declaration of its fields, which ``validation_error`` checks.

    ``value`` and ``fp32_value`` are of the ``metric``. ``plan`` has the bits of every Conv and Linear weight, and
    ``parameters`` their numbers. ``network`` is a hash of the weights, ``images`` the number of test images, and
    ``data_digest`` the first digits of a hash of them. Losses are of Eq. 3, ``divergence`` is KL in nats. Only where
    activations have a plan there are ``activation_plan`` (by place) and ``mean_activation_bits`` (over values), and
    only where that is the budget ``bops_share`` (of W8/A8's bit operations) or ``planned_ms`` (of all Conv and Linear
    layers). ``grouped`` is of runs with ``frontier=grouped``.
    """

    schema: int
    model: Label
    dataset: Name
    data_digest: str
    method: Name
    w_bits: Annotated[str, re.compile(r"(MP)?\d+(\.\d+)?")]
    a_bits: int | Annotated[str, re.compile(r"MP\d+(\.\d+)?")]
    placement: Name
    granularity: Granularity
    rounding: Name
    settings: dict[str, str]
    size_mib: float
    fp32_size_mib: float
    mean_weight_bits: float
    metric: Metric
    value: float
    fp32_value: float
    top5: float | None
    agreement: float | None
    seed: int
    distill_loss: float | None
    calibration_loss: float | None
    gaussian_loss: float | None
    divergence: float | None
    seconds: Seconds
    needs_data: bool
    weight_layers: int
    quantized_weight_layers: int
    quantized_activations: int
    unreached_activations: list[str]
    skipped_steps: list[str]
    plan: dict[str, int]
    parameters: dict[str, int]
    versions: dict[str, str]
    device: str
    network: str
    images: int
    git_commit: str | None
    activation_plan: NotRequired[dict[str, int]]
    mean_activation_bits: NotRequired[float]
    bops_share: NotRequired[float]
    planned_ms: NotRequired[float]
    grouped: NotRequired[Grouped]
    deployed_mib: NotRequired[float]
    deployed_value: NotRequired[float]
    deployment: NotRequired[Deployment]


class NamedRecord(Record):
    """A record with the name of its run."""

    run: str


FIELDS: dict[str, Any] = get_type_hints(Record, include_extras=True)
STAGES = tuple(get_type_hints(Seconds))


def fits(value: Any, kind: Any) -> bool:
    """Whether a value read from JSON is of an annotated type; numbers are finite, and no truth value is one."""
    if is_typeddict(kind):
        kinds = get_type_hints(kind)
        return isinstance(value, dict) and value.keys() == kinds.keys() and all(fits(value[k], kinds[k]) for k in kinds)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is NotRequired:
        return fits(value, inner[0])
    if origin is Annotated:
        return fits(value, inner[0]) and inner[1].fullmatch(value) is not None
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin in (UnionType, Union):
        return any(fits(value, each) for each in inner)
    if origin is list:
        return isinstance(value, list) and all(fits(each, inner[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(each, inner[1]) for each in value.values())
    if kind is float:
        # Python compares a whole number of any size, and converts none that is too large.
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def other_settings(overrides: list[str], changed_value: Callable[[str, str], str | None]) -> dict[str, str]:
    """What a command line sets beyond model, method, bits and seed, in alphabetical order.

    ``changed_value`` gives the value of a (key, value as it was typed) as it is recorded, None for one that would be so
    anyway.
    """
    settings = {}
    for override in overrides:
        key, _, typed = override.lstrip("+~").partition("=")
        if key in (*NAMED_GROUPS, "seed") or is_silent(key):
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

    The order of the overrides does not matter, nor do those that cannot change the result. A long one ends in a hash.
    """
    parts = [choices[group] for group in NAMED_GROUPS] + [f"seed={seed}"]
    parts += [f"{key}={value}" for key, value in settings.items()]
    name = ",".join(parts).replace("/", "-").replace(" ", "")
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name.encode()[: LONGEST_NAME - 13].decode(errors='ignore')},{digest}"


@contextmanager
def record_folder(runs: Path, name: str) -> Iterator[Path]:
    """A scratch folder that becomes ``runs/name`` when the block ends well, and vanishes when it does not.

    For one process at a time (``locked``): what lies there from another is of one that was killed. Raises ZeroQError
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
        raise ZeroQError(f"cannot write runs to {runs} ({error.strerror}); choose another folder") from error
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
    write_whole(path, json.dumps(content, indent=2) + "\n")


def read_content(path: Path) -> Any:
    """What a ``record.json`` holds, or the exception where it cannot be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        return error


def validation_error(content: Any) -> str | None:
    """Why a content is no record of this version; None where it is one."""
    if not isinstance(content, dict):
        return f"damaged: {content}" if isinstance(content, Exception) else "damaged: no dictionary"
    if content.get("schema") != SCHEMA:
        return f"schema {content.get('schema')}, this program reads {SCHEMA}"
    missing, unknown = Record.__required_keys__ - content.keys(), content.keys() - FIELDS.keys()
    parts = [f"{word} {', '.join(sorted(names))}" for word, names in (("lacks", missing), ("has", unknown)) if names]
    wrong = [name for name, kind in FIELDS.items() if name in content and not fits(content[name], kind)]
    parts += [f"has {json.dumps(content[name])} for {name}" for name in wrong]
    if "settings" in content and "settings" not in wrong:
        errors = (setting_error(*setting) for setting in content["settings"].items())
        parts += [f"has settings of which {error}" for error in errors if error]
    if not parts and content["placement"] != content["settings"].get("placement", PLACEMENT):
        parts.append("has settings of another placement")
    if not is_unicode(content):
        parts.append("has text that is none")
    return " and ".join(parts) or None


def is_unicode(content: Any) -> bool:
    """Whether all text can be written; JSON may name halves of characters."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_record(folder: Path) -> NamedRecord:
    """The record in a run's folder; raises ZeroQError where it is damaged, or of another version."""
    content = read_content(folder / "record.json")
    if reason := validation_error(content):
        raise ZeroQError(f"{folder / 'record.json'} cannot be used ({reason}); run it again with force=true")
    return {"run": folder.name, **content}


def formatted(value: float, metric: str) -> str:
    """A value of this metric as tables show it: top-1 in percent, mean average precision as a share."""
    return f"{value:.3f}" if metric == "map" else f"{value:.2f}"
