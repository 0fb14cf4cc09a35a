"""A run's settings, typed and checked; below this file nothing sees a DictConfig."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from zeroq.errors import ZeroQError
from zeroq.precision.sensitivity import check_candidates
from zeroq.quantization.affine import check_bits
from zeroq.quantization.convert import Placement

TRACKER_MODES = ("offline", "online", "disabled")


@dataclass
class ModelConfig:
    source: str
    name: str
    architecture: str


@dataclass
class DataConfig:
    name: str
    root: Path


@dataclass
class MethodConfig:
    name: str
    images: str
    per_channel: bool


@dataclass
class BitsConfig:
    weight: float
    activation: int
    mixed: bool
    candidates: list[int]
    size_mib: float | None
    refine: int


@dataclass
class DistillConfig:
    count: int
    iterations: int
    statistics: str
    learning_rate: float


@dataclass
class TrackerConfig:
    mode: str
    project: str
    entity: str | None


@dataclass
class RunConfig:
    model: ModelConfig
    data: DataConfig
    method: MethodConfig
    bits: BitsConfig
    distill: DistillConfig
    tracker: TrackerConfig
    seed: int
    placement: str
    symmetric: bool
    percentile: float | None
    sensitivity_direction: str
    device: str
    results: Path
    force: bool


def typed(config: DictConfig) -> RunConfig:
    """The composed config as checked dataclasses; raises ZeroQError for an unknown key or a wrong value."""
    try:
        run: RunConfig = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), config))
    except OmegaConfBaseException as error:
        if isinstance(error, MissingMandatoryValue):
            raise ZeroQError("data.root is missing; name the folder that holds the dataset, data.root=…") from error
        raise ZeroQError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    if run.tracker.mode not in TRACKER_MODES:
        raise ZeroQError(f"tracker.mode must be one of {', '.join(TRACKER_MODES)}, not {run.tracker.mode!r}")
    if run.placement not in get_args(Placement):
        raise ZeroQError(f"placement must be one of {', '.join(get_args(Placement))}, not {run.placement!r}")
    check_candidates(run.bits.candidates)
    if run.bits.size_mib is not None and run.method.images == "none":
        raise ZeroQError(f"method {run.method.name} measures no sensitivities, so it cannot keep a budget in MiB")
    if run.method.images == "none":
        run.bits.mixed = False  # nothing to mix by: every layer gets the mean width
    if not run.bits.mixed:
        check_bits(run.bits.weight)
        run.bits.weight = int(run.bits.weight)
    check_bits(run.bits.activation)
    if run.bits.size_mib is not None and not run.bits.mixed:
        raise ZeroQError("bits.size_mib is a budget for mixed precision; choose bits=mp4a8 or set bits.mixed=true")
    return run
