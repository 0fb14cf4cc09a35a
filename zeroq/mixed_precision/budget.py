"""Budgets other than size: bit operations, and the time of the layers on a machine.

A budget gives each layer's options, pairs (weight bits, bits of its input), what each costs, and how much all may cost.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, cast

import pandas
import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.mixed_precision.pairs import (
    TIME_UNIT_MS,
    PairPlan,
    allocate_pairs,
    bit_operation_costs,
    check_amount,
    check_times,
    pair_sensitivities,
    time_costs,
)
from zeroq.mixed_precision.sensitivity import SensitivityTable
from zeroq.quantization.affine import FLOAT_BITS, LARGEST_BITS
from zeroq.quantization.convert import Placement
from zeroq.quantization.operations import multiply_accumulates

# Of W8/A8, which a share of bit operations is of.
BITS_OF_W8A8 = 64


class Widths(Protocol):
    """What a budget looks at in ``Settings``."""

    @property
    def activation_bits(self) -> float | Mapping[str, int]: ...

    @property
    def candidates(self) -> Sequence[int]: ...

    @property
    def placement(self) -> Placement: ...

    @property
    def mixed_activations(self) -> bool: ...


@dataclass(frozen=True)
class BitOperations:
    """At most ``share`` of the bit operations that the network has at W8/A8: 0.25 is what W4/A4 has."""

    share: float

    counts_activations: ClassVar = True

    def check(self, settings: Widths) -> None:
        """Raise ZeroQError for a share that no plan has, and where a layer's input has no width of its own."""
        check_amount("the share of W8/A8's bit operations", self.share)
        if isinstance(settings.activation_bits, Mapping):
            raise ZeroQError("a budget of bit operations counts one width of activations, or chooses them all")
        if settings.placement == "after_relu" or (settings.mixed_activations and settings.placement != "layer_inputs"):
            raise ZeroQError(
                f"bit operations count the width of each layer's input, which placement {settings.placement} does not "
                f"give every layer for itself; use placement='layer_inputs'"
            )
        lowest, highest = (
            bits * (bits if settings.mixed_activations else settings.activation_bits) / BITS_OF_W8A8
            for bits in (min(settings.candidates), max(settings.candidates))
        )
        if not lowest <= self.share <= highest:
            raise ZeroQError(
                f"the candidates have {lowest:g} to {highest:g} of W8/A8's bit operations, and {self.share:g} is "
                f"{'below' if self.share < lowest else 'above'}; change the budget, or the candidate bits"
            )

    def plan(
        self, network: nn.Module, images: torch.Tensor, omega: SensitivityTable, activations: SensitivityTable | int
    ) -> PairPlan:
        """The least sensitive plan; ``activations`` are their sensitivities, or the width that all have."""
        counts = multiply_accumulates(network, images)
        pairs = pair_sensitivities(omega, activations)
        # Rounded, because a share of a whole number may fall a hair below the plan that has it exactly.
        budget = round(self.share * BITS_OF_W8A8 * sum(counts.values()), 3)
        return allocate_pairs(pairs, bit_operation_costs(counts, pairs), budget)

    def found(self, plan: PairPlan, network: nn.Module, images: torch.Tensor) -> dict[str, float]:
        """The share that a plan has."""
        return {"bops_share": plan.cost / (BITS_OF_W8A8 * sum(multiply_accumulates(network, images).values()))}


@dataclass(frozen=True)
class Latency:
    """At most so many milliseconds for all Conv and Linear layers, one image at a time.

    ``times`` is a table in milliseconds, layer × (8, 32), as ``zeroq.layer_times`` measures it on a machine. Runtimes
    have integer kernels of 8 bits only: every candidate takes the time of 8. The other option of a layer is to keep its
    weights float, with Ω = 0. Activations have no part in it. Without ``times`` there is no plan yet.
    """

    milliseconds: float
    times: pandas.DataFrame | None = field(default=None, compare=False, repr=False)
    counts_activations: ClassVar = False

    def check(self, settings: Widths) -> None:
        """Raise ZeroQError for a budget that is no time, and for settings whose widths would have no say."""
        check_amount("the budget in milliseconds", self.milliseconds)
        if self.times is not None:
            check_times(self.times)
        if settings.activation_bits == FLOAT_BITS:
            raise ZeroQError("with float activations no layer runs in integers, so that there is no time to save")

    def check_layers(self, layers: Collection[str]) -> None:
        """Raise ZeroQError without times, for those of other layers, and for a budget that no plan keeps."""
        if self.times is None:
            raise ZeroQError("a budget of time needs the layers' times; measure them, times=zeroq.layer_times(…)")
        if set(self.times.index) != set(layers):
            raise ZeroQError("the times are of other layers than the network's; measure them with zeroq.layer_times")
        fastest = self.times[[LARGEST_BITS, FLOAT_BITS]].min(axis=1).sum()
        if self.milliseconds < fastest:
            raise ZeroQError(
                f"the budget of {self.milliseconds:g} ms is below {fastest:.4g} ms, which the layers take at their "
                f"fastest; raise the budget"
            )

    def plan(
        self, network: nn.Module, images: torch.Tensor, omega: SensitivityTable, activations: SensitivityTable | int
    ) -> PairPlan:
        """The least sensitive plan; its widths of activations are those of the kernels."""
        pairs = pair_sensitivities(omega, LARGEST_BITS, with_float=True)
        costs = time_costs(cast(pandas.DataFrame, self.times), pairs)  # ``check_layers`` saw that there are some
        # At least the fastest plan, whose times are rounded one by one.
        budget = max(round(self.milliseconds / TIME_UNIT_MS, 3), costs.min(axis=1).sum())
        return allocate_pairs(pairs, costs, float(budget))

    def found(self, plan: PairPlan, network: nn.Module, images: torch.Tensor) -> dict[str, float]:
        """What a plan's layers take, in milliseconds."""
        return {"planned_ms": round(plan.cost * TIME_UNIT_MS, 4)}


Budget = BitOperations | Latency
