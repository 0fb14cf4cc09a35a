"""A run's settings, typed and checked; below this file nothing sees a DictConfig."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zeroq.errors import ZeroQError
from zeroq.quantization.affine import check_bits


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

    @property
    def weight_label(self) -> str:
        """``8`` for uniform widths, ``MP4`` for mixed precision of at most 4 bits on average."""
        return f"MP{self.weight:g}" if self.mixed else f"{self.weight:g}"


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
        raise ZeroQError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    if not run.bits.mixed or run.method.images == "none":
        check_bits(run.bits.weight)
        run.bits.weight = int(run.bits.weight)
    check_bits(run.bits.activation)
    if run.bits.size_mib is not None and not run.bits.mixed:
        raise ZeroQError("bits.size_mib is a budget for mixed precision; choose bits=mp4a8 or set bits.mixed=true")
    return run
