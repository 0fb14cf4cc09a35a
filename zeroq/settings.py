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
from zeroq.mixed_precision.grouped import Search
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
BiasCorrection = Literal["none", "analytic", "empirical", "weights"]
Clipping = Literal["none", "output_error", "squared_error", "analytic"]
WeightClipping = Literal["none", "squared_error"]


@dataclass(frozen=True)
class Settings:
    """How a network is quantized.

    ``weight_bits`` is the mean of a mixed-precision plan over ``candidates`` if ``mixed``, else every layer's width
    or a plan. ``activation_bits`` is the mean over values of a plan over ``candidates`` if ``mixed_activations``, else
    every activation's width or a plan by place (``quantize``).
    Instead of mean bits, ``budget`` may bound bit operations or time (``zeroq.mixed_precision.budget``). ``refine`` > 0
    measures that many plans near the budget jointly and keeps the best. ``frontier`` is ``exact``, or ``grouped`` for
    the search of the paper's appendix (``grouped_frontier``). ``bias_correction`` is ``empirical`` where the images
    correct the biases (``correct_biases``), ``weights`` where weights keep their mean and norm (``correct_weights``),
    and for DFQ also ``analytic``. ``rounding`` is ``nearest``, ``compensated`` (``round_layer_by_layer``) or
    ``learned`` (``learn_rounding``). ``clipping`` is ``output_error`` where the ranges of activations are cut to what
    disturbs least (``clip_ranges``), ``squared_error`` where to the grid closest to the values
    (``least_error_range``), ``analytic`` where their distribution says (``analytic_range``). ``weight_clipping`` is
    ``squared_error`` where weights' ranges are those of least squared error. The rest is as in ``quantize``,
    ``sensitivity`` (``direction``, ``output``, ``devices``, and its ``mode`` as ``sensitivity``) and ``calibrate``
    (``percentile``, ``calibration``).
    """

    weight_bits: float | Mapping[str, int] = 4
    activation_bits: float | Mapping[str, int] = 8
    mixed: bool = True
    candidates: Sequence[int] = (2, 4, 8)
    direction: Direction = "forward"
    refine: int = 0
    frontier: Search = "exact"
    placement: Placement = "layer_inputs"
    per_channel: bool = True
    symmetric: bool | None = None
    weight_range: WeightRange = "with_zero"
    percentile: float | None = None
    calibration: Calibration = "float"
    bias_correction: BiasCorrection = "none"
    rounding: Rounding = "nearest"
    clipping: Clipping = "none"
    weight_clipping: WeightClipping = "none"
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
        self._check_weights()
        if self.clipping != "none" and self.percentile is not None:
            raise ZeroQError("clipping chooses the ends of activation ranges, and so does percentile; leave one out")
        if not isinstance(self.refine, int) or not 0 <= self.refine <= MOST_PLANS:
            raise ZeroQError(f"refine is a number of plans, 0 for none, at most {MOST_PLANS:,}, not {self.refine}")
        if self.refine and not self.mixed:
            raise ZeroQError("refine chooses among mixed-precision plans; leave it out, or mixed=True")
        check_search(self.frontier)
        if self.frontier == "grouped":
            self._check_grouped()
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

    def _check_grouped(self) -> None:
        """Raise ZeroQError for the grouped search beside what it does not go with."""
        if not self.mixed:
            raise ZeroQError("frontier='grouped' chooses a mixed-precision plan; leave it out, or mixed=True")
        if self.refine:
            raise ZeroQError("refine measures plans of the exact frontier, and frontier='grouped' its own; choose one")
        if self.budget is not None:
            raise ZeroQError("frontier='grouped' is of sizes; leave it out where operations or time are the budget")

    def _check_weights(self) -> None:
        """Raise ZeroQError for ways to treat weights and ranges that do not go together."""
        if self.weight_clipping not in get_args(WeightClipping):
            raise ZeroQError(
                f"weight_clipping must be one of {', '.join(get_args(WeightClipping))}, not {self.weight_clipping!r}"
            )
        for what, chosen in (
            ("weight_clipping='squared_error'", self.weight_clipping == "squared_error"),
            ("bias_correction='weights'", self.bias_correction == "weights"),
        ):
            if chosen and self.rounding != "nearest":
                raise ZeroQError(f"{what} is of weights that are rounded to the nearest; leave it out, or the rounding")
            if chosen and self.mixed:
                raise ZeroQError(f"{what} is no part of what plans are measured with; leave it out, or mixed=False")
        if self.bias_correction == "weights" and self.placement == "integer":
            raise ZeroQError(
                "bias_correction='weights' moves weights between the integers that placement integer multiplies; "
                "choose placement='layer_inputs'"
            )
        if self.weight_clipping != "none" and self.weight_range != "with_zero":
            raise ZeroQError("weight_clipping chooses ranges that hold 0; leave it out, or weight_range='with_zero'")
        if self.mixed_activations and self.clipping in ("squared_error", "analytic"):
            raise ZeroQError(
                f"clipping={self.clipping!r} is no part of what plans are measured with; leave it out, or "
                f"mixed_activations=False"
            )

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


def check_search(frontier: str) -> None:
    """Raise ZeroQError for a way to find plans that does not exist."""
    if frontier not in get_args(Search):
        raise ZeroQError(f"frontier must be one of {', '.join(get_args(Search))}, not {frontier!r}")


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
