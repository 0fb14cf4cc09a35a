"""How a network is quantized: the choices of all stages, checked before any of them runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any, Literal, get_args

from torch import nn

from zeroq.errors import ZeroQError
from zeroq.layers import weighted_layers
from zeroq.mixed_precision.budget import Budget, Latency
from zeroq.mixed_precision.divergence import Direction, check_direction
from zeroq.mixed_precision.outputs import Output, check_output
from zeroq.mixed_precision.sensitivity import Mode, check_candidates, check_mode
from zeroq.quantization.affine import FLOAT_BITS, Granularity, WeightRange, check_weight_range
from zeroq.quantization.calibrate import Calibration, check_calibration, check_percentile
from zeroq.quantization.convert import (
    Placement,
    check_activation_bits,
    check_placement,
    convert,
    is_symmetric,
    resolve_weight_bits,
)
from zeroq.rounding.quantize import Rounding, check_rounding

MOST_PLANS = 10_000  # each is a pass of all images
BiasCorrection = Literal["none", "analytic", "empirical"]
Clipping = Literal["none", "output_error"]


@dataclass(frozen=True)
class Settings:
    """How a network is quantized.

    ``weight_bits`` is the mean of a mixed-precision plan over ``candidates`` if ``mixed``, else every layer's width
    or a plan. ``activation_bits`` is the mean over values of a plan over ``candidates`` if ``mixed_activations``, else
    every activation's width or a plan by place (``quantize``).
    Instead of mean bits, ``budget`` may bound bit operations or time (``zeroq.mixed_precision.budget``). ``refine`` > 0
    measures that many plans near the budget jointly and keeps the best. ``bias_correction`` is ``empirical`` where the
    images correct the biases (``correct_biases``), and for DFQ also ``analytic``. ``rounding`` is ``nearest``,
    ``compensated`` (``round_layer_by_layer``) or ``learned`` (``learn_rounding``). ``clipping`` is ``output_error``
    where the ranges of activations are cut to what disturbs least (``clip_ranges``). The rest is as in ``quantize``,
    ``sensitivity`` (``direction``, ``output``, ``devices``, and its ``mode`` as ``sensitivity``) and ``calibrate``
    (``percentile``, ``calibration``).
    """

    weight_bits: float | Mapping[str, int] = 4
    activation_bits: float | Mapping[str, int] = 8
    mixed: bool = True
    candidates: Sequence[int] = (2, 4, 8)
    direction: Direction = "forward"
    refine: int = 0
    placement: Placement = "layer_inputs"
    per_channel: bool = True
    symmetric: bool | None = None
    weight_range: WeightRange = "with_zero"
    percentile: float | None = None
    calibration: Calibration = "float"
    bias_correction: BiasCorrection = "none"
    rounding: Rounding = "nearest"
    clipping: Clipping = "none"
    sensitivity: Mode = "exact"
    devices: Sequence[str] = ()
    mixed_activations: bool = False
    budget: Budget | None = None
    output: Output = None

    @property
    def granularity(self) -> Granularity:
        """How weights are quantized, as ``quantize`` and ``sensitivity`` take it."""
        symmetric = is_symmetric(self.symmetric, self.placement)
        return {"per_channel": self.per_channel, "symmetric": symmetric, "weight_range": self.weight_range}

    @property
    def measured_rounding(self) -> Rounding:
        """The rounding that plans are measured with: learning takes minutes, and starts from the compensated one."""
        return "compensated" if self.rounding == "learned" else self.rounding

    def check(self, model: nn.Module, input_shape: tuple[int, int, int] | None) -> None:
        """Raise ZeroQError for what a stage would refuse later, after minutes of work."""
        self.check_values()
        if not self.mixed:
            resolve_weight_bits(model, self.weight_bits)
        if isinstance(self.activation_bits, Mapping):
            # It knows which places there are.
            convert(model, FLOAT_BITS, self.activation_bits, self.placement, input_shape=input_shape)
        if isinstance(self.budget, Latency):
            self.budget.check_layers(weighted_layers(model))

    def check_values(self) -> None:
        """``check``, of what can be told without a network."""
        candidates = check_candidates(self.candidates)
        check_direction(self.direction)
        check_mode(self.sensitivity)
        check_output(self.output)
        check_placement(self.placement)
        check_weight_range(self.weight_range, symmetric=self.granularity["symmetric"])
        check_percentile(self.percentile)
        check_calibration(self.calibration)
        check_bias_correction(self.bias_correction)
        check_rounding(self.rounding)
        check_clipping(self.clipping)
        if self.clipping != "none" and self.percentile is not None:
            raise ZeroQError("clipping chooses the ends of activation ranges, and so does percentile; leave one out")
        if not isinstance(self.refine, int) or not 0 <= self.refine <= MOST_PLANS:
            raise ZeroQError(f"refine is a number of plans, 0 for none, at most {MOST_PLANS:,}, not {self.refine}")
        if self.refine and not self.mixed:
            raise ZeroQError("refine chooses among mixed-precision plans; leave it out, or mixed=True")
        if self.mixed and isinstance(self.weight_bits, Mapping):
            raise ZeroQError("weight_bits names every layer's bits already; give the mean bits, or mixed=False")
        if self.mixed_activations and isinstance(self.activation_bits, Mapping):
            raise ZeroQError(
                "activation_bits names every activation's bits already; give the mean bits, or mixed_activations=False"
            )
        if self.mixed and self.budget is None:
            check_mean("weight", self.weight_bits, candidates)
        if not self.mixed_activations:
            check_activation_bits(self.activation_bits)
        elif not getattr(self.budget, "counts_activations", False):
            check_mean("activation", self.activation_bits, candidates)
        if self.budget is not None:
            self._check_budget()

    def _check_budget(self) -> None:
        """Raise ZeroQError for a budget beside what it does not go with."""
        if not isinstance(self.budget, Budget):
            raise ZeroQError(f"budget must be zeroq.BitOperations or zeroq.Latency, not {self.budget!r}")
        if not self.mixed:
            raise ZeroQError("a budget is for mixed precision, which chooses widths; leave it out, or mixed=True")
        if self.refine:
            raise ZeroQError("refine measures plans of one size; leave it out where operations or time are the budget")
        self.budget.check(self)


def check_mean(what: str, mean: Any, candidates: Sequence[int]) -> None:
    """Raise ZeroQError for mean bits that no plan over the candidates, in ascending order, has; ``what`` is planned."""
    if isinstance(mean, bool) or not isinstance(mean, Real) or mean < candidates[0] or not mean < inf:
        raise ZeroQError(
            f"the budget is below the smallest candidate, or no number: mean {what} bits must be at least "
            f"{candidates[0]}, not {mean}; raise the budget or add narrower candidate bits"
        )
    if not mean <= candidates[-1]:
        raise ZeroQError(
            f"the budget is above the widest candidate: mean {what} bits must be at most {candidates[-1]}, not "
            f"{mean:g}; lower the budget or add wider candidate bits"
        )


def check_bias_correction(bias_correction: str) -> None:
    """Raise ZeroQError for a correction that does not exist."""
    if bias_correction not in get_args(BiasCorrection):
        raise ZeroQError(
            f"bias_correction must be one of {', '.join(get_args(BiasCorrection))}, not {bias_correction!r}"
        )


def check_clipping(clipping: str) -> None:
    """Raise ZeroQError for a way to clip that does not exist."""
    if clipping not in get_args(Clipping):
        raise ZeroQError(f"clipping must be one of {', '.join(get_args(Clipping))}, not {clipping!r}")
