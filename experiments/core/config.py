"""A run's settings, typed and checked; below this file nothing sees a DictConfig."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from experiments.core.choices import EXPERIMENT_KEYS
from zeroq.baselines.dfq import Steps, check_bias_correction
from zeroq.distillation.batch_norm import check_statistics
from zeroq.distillation.recipes import check_recipe
from zeroq.errors import ZeroQError
from zeroq.images import check_count
from zeroq.quantization.affine import check_bits

TRACKER_MODES = ("offline", "online", "disabled")
IMAGES = ("distilled", "gaussian", "real", "none")
RANGES = ("images", "statistics", "batch")
# What a search can go by: the quantized network's distance from the float one, without data, or its score.
OBJECTIVES = ("divergence", "value")


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
    ranges: str
    per_channel: bool
    dfq: bool
    replace_relu6: bool
    equalize: bool
    absorb: bool
    bias_correction: str

    @property
    def steps(self) -> Steps | None:
        """DFQ's steps on the float weights; None where the network is quantized as it is."""
        return Steps(self.replace_relu6, self.equalize, self.absorb) if self.dfq else None


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
    size: int | None = None  # of images in pixels, where it is not the network's own
    recipe: str = "published"


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
    symmetric: bool | None
    percentile: float | None
    sensitivity: str
    sensitivity_direction: str
    device: str
    outputs: Path
    force: bool
    objective: str | None = None


def typed(config: DictConfig) -> RunConfig:
    """The composed config as checked dataclasses; raises ZeroQError for an unknown key or a wrong value."""
    own = OmegaConf.masked_copy(config, [key for key in config if key not in EXPERIMENT_KEYS])  # no run sees them
    try:
        run: RunConfig = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), own))
    except OmegaConfBaseException as error:
        if isinstance(error, MissingMandatoryValue):
            raise ZeroQError(f"{error.full_key} is missing; give it a value, {error.full_key}=…") from error
        raise ZeroQError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    if run.tracker.mode not in TRACKER_MODES:
        raise ZeroQError(f"tracker.mode must be one of {', '.join(TRACKER_MODES)}, not {run.tracker.mode!r}")
    check_method(run)
    if run.objective not in (None, *OBJECTIVES):
        raise ZeroQError(f"objective must be one of {', '.join(OBJECTIVES)}, not {run.objective!r}")
    if run.objective == "divergence" and run.method.images == "none":
        raise ZeroQError(f"objective=divergence needs calibration images; method {run.method.name} has none")
    if not 0 <= run.seed < 2**63:
        raise ZeroQError(f"seed must be a whole number from 0 to 2⁶³ − 1, not {run.seed}")
    check_recipe(run.distill.recipe)
    check_statistics(run.distill.statistics)
    check_count(run.distill.count)
    if run.distill.size is not None and run.distill.size < 1:
        raise ZeroQError(f"distill.size is a number of pixels, not {run.distill.size}")
    if run.bits.size_mib is not None and run.method.ranges != "images":
        raise ZeroQError(f"method {run.method.name} measures no sensitivities, so it cannot keep a budget in MiB")
    if run.method.ranges != "images":
        run.bits.mixed = False  # nothing to mix by: every layer gets the mean width
    if not run.bits.mixed:
        check_bits(run.bits.weight)
        run.bits.weight = int(run.bits.weight)
    check_bits(run.bits.activation)
    if run.bits.size_mib is not None and not run.bits.mixed:
        raise ZeroQError("bits.size_mib is a budget for mixed precision; choose bits=mp4a8 or set bits.mixed=true")
    return run


def check_method(run: RunConfig) -> None:
    """Raise ZeroQError for a method that does not exist, or whose parts do not go together."""
    method = run.method
    for key, known in (("images", IMAGES), ("ranges", RANGES)):
        if getattr(method, key) not in known:
            raise ZeroQError(f"method.{key} must be one of {', '.join(known)}, not {getattr(method, key)!r}")
    check_bias_correction(method.bias_correction)
    needs = [
        what
        for what, wanted in {
            "method.ranges=images": method.ranges == "images",
            "method.bias_correction=empirical": method.bias_correction == "empirical",
        }.items()
        if wanted
    ]
    if needs and method.images == "none":
        raise ZeroQError(f"{needs[0]} needs images; choose method.images=distilled")
    if not method.dfq and (method.ranges == "statistics" or method.bias_correction == "analytic"):
        raise ZeroQError("ranges from statistics and analytic bias correction are parts of DFQ; choose method.dfq=true")
    if method.ranges == "batch" and (method.dfq or method.bias_correction != "none"):
        raise ZeroQError(
            "ranges of each batch belong to the naive method, which has no DFQ and no bias correction; "
            "choose method=dfq"
        )
    if method.images != "none" and not needs:
        raise ZeroQError(f"nothing in method {method.name} uses images; leave method.images=none")
    if run.percentile is not None and method.ranges != "images":
        raise ZeroQError(f"percentile is of ranges from images, and method {method.name} has none")
    if run.sensitivity != "exact" and method.ranges != "images":
        raise ZeroQError(f"method {method.name} measures no sensitivities, so there is none to estimate")
    switched = [name for name in ("replace_relu6", "equalize", "absorb") if not getattr(method, name)]
    if switched and not method.dfq:
        raise ZeroQError(f"method.{switched[0]} is a step of DFQ; choose method=dfq or method=zeroq+dfq")
