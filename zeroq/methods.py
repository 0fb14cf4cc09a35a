"""What a method of quantization consists of, and the methods by name.

A module of ``zeroq.baselines`` that defines ``METHOD`` is a method: a new baseline is one file.
``zeroq.pipeline.quantize_by_method`` runs any of them.
"""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, get_args

from torch import fx, nn

from zeroq.errors import ZeroQError
from zeroq.mixed_precision.sensitivity import Mode
from zeroq.rounding.quantize import Rounding
from zeroq.settings import BiasCorrection, Clipping, Settings, WeightClipping

Images = Literal["distilled", "gaussian", "uniform_noise", "real", "none"]
Ranges = Literal["images", "statistics", "batch"]
# The graph of a float network (and its input's shape) → the network that is quantized in its place.
Rewrite = Callable[[nn.Module, tuple[int, int, int]], fx.GraphModule]
# What a method chooses among the settings; a caller's own choice goes before it.
OWN_SETTINGS = (
    *("per_channel", "bias_correction", "rounding", "clipping", "weight_clipping", "candidates", "sensitivity"),
)


@dataclass(frozen=True)
class Method:
    """A method of quantization.

    Args:
        name: as in ``method=`` and ``zero_shot_quantize(…, method=…)``.
        images: where calibration images come from; ``real`` ones are the caller's.
        ranges: what activation ranges are taken from: ``images``, BatchNorm's ``statistics`` (β ± 6γ), or each
            ``batch`` that is scored. Ranges from images come with sensitivities, and so with mixed precision.
        uniform: all layers have the same width, and no sensitivities are measured.
        steps: what is done to a copy of the float network first, such as DFQ's ``Steps``.
        expansion: the share of each layer's input channels that are split in two (``split_outlier_channels``).
        per_channel: one weight range for each output channel, or one for the tensor.
        bias_correction: how biases are corrected once weights are rounded, or the ``weights`` themselves.
        rounding: of weights, to the ``nearest``, ``compensated`` or ``learned``.
        clipping: of activation ranges, ``none``, by ``output_error`` or ``squared_error``, or ``analytic``.
        weight_clipping: of weight ranges, ``none`` or by ``squared_error``.
        candidates: bits that mixed precision chooses from.
        sensitivity: ``exact`` or ``estimated``.
        recipe: of distilled images, by its name.
    """

    name: str
    images: Images = "distilled"
    ranges: Ranges = "images"
    uniform: bool = False
    steps: Rewrite | None = None
    expansion: float = 0.0
    per_channel: bool = True
    bias_correction: BiasCorrection = "none"
    rounding: Rounding = "nearest"
    clipping: Clipping = "none"
    weight_clipping: WeightClipping = "none"
    candidates: Sequence[int] = (2, 4, 8)
    sensitivity: Mode = "exact"
    recipe: str = "published"

    @property
    def measures_sensitivities(self) -> bool:
        """Whether the method knows which layers need more bits than others."""
        return self.ranges == "images" and not self.uniform

    def settings(
        self,
        weight_bits: float | Mapping[str, int] = 4,
        activation_bits: float | Mapping[str, int] = 8,
        mixed: bool | None = None,
        **others: Any,
    ) -> Settings:
        """``Settings`` with what this method chooses itself and, where it can, mixed precision."""
        if mixed is None:
            mixed = self.measures_sensitivities and not isinstance(weight_bits, Mapping)
        own = {name: getattr(self, name) for name in OWN_SETTINGS}
        return Settings(weight_bits, activation_bits, mixed, **own | others)

    def uses_images(self, settings: Settings) -> bool:
        """Whether anything is measured on calibration images."""
        return self.ranges == "images" or bool(self._other_uses(settings))

    def _other_uses(self, settings: Settings) -> list[str]:
        """What but ranges looks at images, as it is set."""
        found = []
        if settings.bias_correction == "empirical":
            found.append("bias_correction='empirical'")
        if settings.rounding != "nearest":
            found.append(f"rounding={settings.rounding!r}")
        return found

    def check(self, settings: Settings, *, given: bool = False) -> None:
        """Raise ZeroQError for parts that do not go together; ``given``: the caller has images of their own."""
        for key, value, known in (("images", self.images, Images), ("ranges", self.ranges, Ranges)):
            if value not in get_args(known):
                raise ZeroQError(f"{key} must be one of {', '.join(get_args(known))}, not {value!r}")
        has_images = given or self.images != "none"
        if self.uses_images(settings) and not has_images:
            what = "ranges='images'" if self.ranges == "images" else self._other_uses(settings)[0]
            raise ZeroQError(f"{what} needs images; choose a method that has some, images='distilled', or give yours")
        if has_images and not self.uses_images(settings):
            raise ZeroQError(f"nothing in method {self.name} uses images; leave them out, or take ranges from them")
        if self.images == "real" and not given:
            raise ZeroQError(f"method {self.name} needs images of yours, normalised as the network's input: images=…")
        if self.steps is None and (self.ranges == "statistics" or settings.bias_correction == "analytic"):
            raise ZeroQError(
                "ranges from statistics and analytic bias correction are parts of DFQ; choose method='dfq' "
                "(quantize_with_dfq), or correct the biases with images, bias_correction='empirical'"
            )
        if self.ranges == "batch" and (self.steps is not None or settings.bias_correction != "none"):
            raise ZeroQError(
                "ranges of each batch belong to the naive method, which has no DFQ and no bias correction; "
                "choose method='dfq'"
            )
        if settings.clipping != "none" and self.ranges != "images":
            raise ZeroQError("clipping is of ranges from images; choose clipping='none', or ranges='images'")
        self._check_expansion(settings)
        self._check_ranges(settings)

    def _check_expansion(self, settings: Settings) -> None:
        if not self.expansion:
            return
        if not 0 < self.expansion <= 1:
            raise ZeroQError(f"expansion is a share of a layer's channels, at most 1, not {self.expansion}")
        if settings.mixed:
            raise ZeroQError("split channels are no part of the size that a plan keeps to; choose mixed=False")
        if settings.weight_range != "with_zero":
            raise ZeroQError("channels are split by ranges that hold 0; choose weight_range='with_zero'")
        if self.steps is not None:
            raise ZeroQError("channels are split in the network as it came; leave out the expansion, or DFQ's steps")

    def _check_ranges(self, settings: Settings) -> None:
        if settings.percentile is not None and self.ranges != "images":
            raise ZeroQError(f"percentile is of ranges from images, and method {self.name} has none")
        if settings.calibration != "float" and self.ranges != "images":
            raise ZeroQError(f"calibration is of ranges from images, and method {self.name} has none")
        if self.measures_sensitivities:
            return
        if settings.mixed:
            raise ZeroQError(
                f"method {self.name} measures no sensitivities, so it has no mixed precision; choose mixed=False, or "
                f"a method that is not uniform and takes its ranges from images"
            )
        if settings.mixed_activations:
            raise ZeroQError(
                f"method {self.name} measures no sensitivities, so its activations have one width; take the ranges "
                f"from images, or mixed_activations=False"
            )
        if settings.sensitivity != "exact":
            raise ZeroQError(f"method {self.name} measures no sensitivities, so there is none to estimate")
        if settings.placement == "integer" and self.ranges == "statistics":
            raise ZeroQError(
                "DFQ's statistics give no ranges for the sums and pools of placement integer; take them from images "
                "(method='zeroq+dfq'), or use placement='layer_inputs'"
            )


# Cai et al., ZeroQ (CVPR 2020): ranges and sensitivities from distilled images.
ZEROQ = Method("zeroq")


@cache
def methods() -> dict[str, Method]:
    """Every method by its name, ZeroQ first."""
    # By name, since the baselines lie above this module.
    package = import_module("zeroq.baselines")
    modules = (import_module(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__))
    return {method.name: method for method in (ZEROQ, *(m.METHOD for m in modules if hasattr(m, "METHOD")))}


def method_by_name(name: str) -> Method:
    """A method; raises ZeroQError for one that does not exist."""
    if not isinstance(name, str) or name not in methods():
        raise ZeroQError(f"method must be one of {', '.join(methods())}, not {name!r}")
    return methods()[name]
