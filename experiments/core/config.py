"""A run's settings, typed and checked; below this file nothing sees a DictConfig."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from experiments.core.choices import EXPERIMENT_KEYS
from experiments.core.idle import what_it_is_of
from zeroq.baselines.dfq import Steps
from zeroq.distillation.recipe import Distillation
from zeroq.errors import ZeroQError
from zeroq.images import Limits
from zeroq.methods import OWN_SETTINGS, Method, methods
from zeroq.mixed_precision.budget import BitOperations, Budget, Latency
from zeroq.networks.pretrained import InputSpecification, check_normalisation
from zeroq.quantization.affine import check_bits
from zeroq.settings import Settings

TRACKER_MODES = ("offline", "online", "disabled")
# What a search can go by: the quantized network's distance from the float one, without data, or its score.
OBJECTIVES = ("divergence", "value")

# What a method's YAML says beside its settings and DFQ's steps.
OWN_PARTS = ("images", "ranges", "uniform", "expansion")
# Budgets other than mean bits, and their units.
BUDGETS = {"size_mib": "MiB", "bops_share": "bit operations", "latency_ms": "milliseconds"}


@dataclass
class ModelConfig:
    source: str
    name: str
    architecture: str
    checkpoint: Path | None
    classes: int | None = None  # of the checkpoint, where they are not those of the published weights

    @property
    def label(self) -> str:
        """The name with its source: ``fashion/resnet18``, ``timm/resnet18``."""
        return self.name if "/" in self.name else f"{self.source}/{self.name}"


@dataclass
class DataConfig:
    name: str
    root: Path
    # Of data=folder: how your network was trained, where that is not the model's own way.
    size: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None

    def prepared(self, own: InputSpecification) -> InputSpecification:
        """The input of a network that was trained for these data; raises ZeroQError for what does not fit it."""
        channels, height, width = own.shape
        if self.mean is not None:
            check_normalisation("data.mean", self.mean, channels, positive=False)
        if self.std is not None:
            check_normalisation("data.std", self.std, channels, positive=True)
        if self.size is not None and self.size < 1:
            raise ZeroQError(f"data.size is a number of pixels, not {self.size}")
        found = replace(own, mean=tuple(self.mean or own.mean), std=tuple(self.std or own.std))
        if self.size is None:
            return found
        share = self.size / min(height, width)
        resize = round(own.resize * share) if isinstance(own.resize, int) else None
        return replace(found, shape=(channels, self.size, self.size), resize=resize)


@dataclass
class MethodConfig:
    name: str
    images: str
    ranges: str
    uniform: bool
    per_channel: bool
    expansion: float
    dfq: bool
    replace_relu6: bool
    equalize: bool
    absorb: bool
    bias_correction: str
    rounding: str
    clipping: str
    weight_clipping: str
    candidates: list[int]
    sensitivity: str

    def build(self) -> Method:
        """The method: what a file of zeroq.baselines defines under this name, with what was chosen here."""
        own = methods().get(self.name, Method(self.name))
        steps = None if isinstance(own.steps, Steps) else own.steps
        if self.dfq:
            steps = Steps(self.replace_relu6, self.equalize, self.absorb)
        chosen = {key: getattr(self, key) for key in (*OWN_PARTS, *OWN_SETTINGS)}
        return replace(own, steps=steps, **chosen)


@dataclass
class BitsConfig:
    weight: float
    activation: float
    mixed: bool
    candidates: list[int]
    mixed_activations: bool
    size_mib: float | None
    bops_share: float | None
    latency_ms: float | None
    refine: int

    @property
    def budget(self) -> Budget | None:
        """The budget that is not of size; layers' times are measured later."""
        if self.bops_share is not None:
            return BitOperations(self.bops_share)
        return None if self.latency_ms is None else Latency(self.latency_ms)


@dataclass
class DistillConfig:
    count: int
    iterations: int
    statistics: str
    learning_rate: float
    bounded: bool
    size: int | None = None  # of images in pixels, where it is not the network's own
    recipe: str = "published"

    def distillation(self, seed: int, limits: Limits | None) -> Distillation:
        """How images are distilled; ``limits`` are those of the network's input, kept to where ``bounded``."""
        return Distillation(
            self.recipe,
            self.count,
            self.iterations,
            seed,
            self.statistics,
            self.learning_rate,
            limits if self.bounded else None,
            self.size,
        )


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
    weight_range: str
    percentile: float | None
    calibration: str
    sensitivity: str
    sensitivity_direction: str
    frontier: str
    device: str
    outputs: Path
    force: bool
    objective: str | None = None

    def settings(self, weight_bits: float, devices: Sequence[str] = ()) -> Settings:
        """How the network is quantized; ``weight_bits`` is the mean that a budget in MiB allows, if there is one."""
        return self.method.build().settings(
            weight_bits,
            self.bits.activation,
            self.bits.mixed,
            candidates=self.bits.candidates,
            direction=self.sensitivity_direction,
            refine=self.bits.refine,
            frontier=self.frontier,
            placement=self.placement,
            symmetric=self.symmetric,
            weight_range=self.weight_range,
            percentile=self.percentile,
            calibration=self.calibration,
            devices=devices,
            sensitivity=self.sensitivity,
            mixed_activations=self.bits.mixed_activations,
            budget=self.bits.budget,
        )


def typed(config: DictConfig) -> RunConfig:
    """The composed config as checked dataclasses; raises ZeroQError for an unknown key or a wrong value."""
    own = OmegaConf.masked_copy(config, [key for key in config if key not in EXPERIMENT_KEYS])  # no run sees them
    try:
        run: RunConfig = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), own))
    except OverflowError as error:
        raise ZeroQError("a number is too large to be one") from error
    except OmegaConfBaseException as error:
        if isinstance(error, MissingMandatoryValue):
            raise ZeroQError(f"{error.full_key} is missing; give it a value, {error.full_key}=…") from error
        raise ZeroQError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    check_truth_values(own, RunConfig)
    if not run.model.name or not run.model.architecture:
        raise ZeroQError("model.name is empty; name the network, as in model=timm model.name=resnet18.a1_in1k")
    if run.tracker.mode not in TRACKER_MODES:
        raise ZeroQError(f"tracker.mode must be one of {', '.join(TRACKER_MODES)}, not {run.tracker.mode!r}")
    if run.objective not in (None, *OBJECTIVES):
        raise ZeroQError(f"objective must be one of {', '.join(OBJECTIVES)}, not {run.objective!r}")
    if run.objective == "divergence" and run.method.images == "none":
        raise ZeroQError(f"objective=divergence needs calibration images; method {run.method.name} has none")
    if not 0 <= run.seed < 2**63:
        raise ZeroQError(f"seed must be a whole number from 0 to 2⁶³ − 1, not {run.seed}")
    run.distill.distillation(run.seed, None).check()
    check_bits_of(run)
    switched = [name for name in ("replace_relu6", "equalize", "absorb") if not getattr(run.method, name)]
    if switched and not run.method.dfq:
        raise ZeroQError(f"method.{switched[0]} is a step of DFQ; choose method=dfq or method=zeroq+dfq")
    settings = run.settings(run.bits.weight)
    settings.check_values()
    run.method.build().check(settings, given=run.method.images == "real")
    return run


def check_truth_values(config: DictConfig, kind: type, prefix: str = "") -> None:
    """Raise ZeroQError for a number where true or false is meant: OmegaConf takes any for true."""
    for name, own in get_type_hints(kind).items():
        value = config.get(name)
        if is_dataclass(own):
            check_truth_values(value, own, f"{prefix}{name}.")
        elif bool in (own, *get_args(own)) and not (value is None or isinstance(value, bool)):
            raise ZeroQError(f"{prefix}{name} must be true or false, not {value!r}")


def check_settings_matter(run: RunConfig, given: Collection[str]) -> None:
    """Raise ZeroQError for a setting that changes nothing in a run: it would be recorded as if it had.

    ``given`` are the settings that the command line names.
    """
    method = run.method
    for key in sorted(given):
        if of := what_it_is_of(key, method.images, method.ranges, uniform=method.uniform):
            has = "measures none" if of == "sensitivities" else "has none"
            raise ZeroQError(f"{key} is of {of}, and method {method.name} {has}; leave it out")
    if "bits.weight" in given and (budgets := [each for each in BUDGETS if getattr(run.bits, each) is not None]):
        raise ZeroQError(f"bits.weight and bits.{budgets[0]} are two budgets of one plan; leave one out")


def check_bits_of(run: RunConfig) -> None:
    """Raise ZeroQError for wrong bits; a method without sensitivities gives every layer the mean width."""
    bits, method = run.bits, run.method.build()
    given = {key: unit for key, unit in BUDGETS.items() if getattr(bits, key) is not None}
    if len(given) > 1:
        raise ZeroQError(f"a plan has one budget; leave out one of bits.{' and bits.'.join(given)}")
    if given and not method.measures_sensitivities:
        (unit,) = given.values()
        raise ZeroQError(f"method {method.name} measures no sensitivities, so it cannot keep a budget in {unit}")
    bits.mixed = bits.mixed and method.measures_sensitivities
    bits.mixed_activations = bits.mixed_activations and method.measures_sensitivities
    if not bits.mixed_activations:
        check_bits(bits.activation)
        bits.activation = int(bits.activation)
    if not bits.mixed:
        check_bits(bits.weight)
        bits.weight = int(bits.weight)
    if given and not bits.mixed:
        (key,) = given
        raise ZeroQError(f"bits.{key} is a budget for mixed precision; choose bits=mp4a8 or set bits.mixed=true")
