"""A run's settings, typed and checked; below this file nothing sees a DictConfig."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from zeroq.errors import ZeroQError
from zeroq.images.batch_norm import check_statistics
from zeroq.images.checks import check_count
from zeroq.quantization.affine import check_bits

TRACKER_MODES = ("offline", "online", "disabled")
IMAGES = ("distilled", "gaussian", "real", "none")


@dataclass
class ModelConfig:
    source: str
    name: str
    architecture: str
    checkpoint: Path | None
    classes: int | None = None  # of the checkpoint, where they are not ImageNet's 1,000

    @property
    def label(self) -> str:
        """The name with its source: ``fashion/resnet18``, ``timm/resnet18``."""
        return self.name if "/" in self.name else f"{self.source}/{self.name}"


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
    bounded: bool


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
            raise ZeroQError(f"{error.full_key} is missing; give it a value, {error.full_key}=…") from error
        raise ZeroQError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    if run.tracker.mode not in TRACKER_MODES:
        raise ZeroQError(f"tracker.mode must be one of {', '.join(TRACKER_MODES)}, not {run.tracker.mode!r}")
    if run.method.images not in IMAGES:
        raise ZeroQError(f"method.images must be one of {', '.join(IMAGES)}, not {run.method.images!r}")
    if not 0 <= run.seed < 2**63:
        raise ZeroQError(f"seed must be a whole number from 0 to 2⁶³ − 1, not {run.seed}")
    check_statistics(run.distill.statistics)
    check_count(run.distill.count)
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
