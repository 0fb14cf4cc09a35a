"""Compensated rounding: each weight is rounded so as to make up for the errors of those rounded before it.

The error that counts is that of the layer's output on images, ‖(Ŵ − W) X‖² = tr (Ŵ − W) H (Ŵ − W)ᵀ with H = X Xᵀ,
one such problem for each group of a convolution. Source: Frantar and Alistarh 2022 (OBQ), Frantar et al. 2023 (GPTQ).
"""

from dataclasses import dataclass

import torch

from zeroq.rounding.gram import Gram, blocks

# Passes over all weights in which each may still move to a better integer.
SWEEPS = 2


@dataclass(frozen=True)
class Grid:
    """The values that the rows of a weight may take: ``scale`` times the integers from ``lowest`` to ``highest``.

    Each is [groups, outputs, 1], one for each output; the integers are those less the zero point.
    """

    scale: torch.Tensor
    lowest: torch.Tensor
    highest: torch.Tensor

    def nearest(self, values: torch.Tensor) -> torch.Tensor:
        """The grid's value nearest to each of these."""
        return self.steps(values) * self.scale

    def steps(self, values: torch.Tensor) -> torch.Tensor:
        """The same in units of the scale."""
        return (values / self.scale).round().clamp(self.lowest, self.highest)


def compensated(rows: torch.Tensor, moments: Gram, damped: Gram, grid: Grid) -> torch.Tensor:
    """Rows of a weight on a grid, with an error on the images that is never above that of rounding to the nearest.

    Args:
        rows: the weight, float [groups, outputs, inputs]; with float32 it takes half as long, and an error that is
            the same but for its last digits may be taken for the smaller one.
        moments: second moments of the inputs on the images.
        damped: those that rounding goes by, positive definite.
        grid: of the rows.

    Returns:
        [groups, outputs, inputs]; of each output whichever errs less on the images, ``improved(greedy(…))`` or
        rounding to the nearest.
    """
    nearest = grid.nearest(rows)
    found = improved(greedy(rows, damped, grid), rows, damped, grid)
    better = moments.squares(found - rows) < moments.squares(nearest - rows)
    return torch.where(better[..., None], found, nearest)


def greedy(rows: torch.Tensor, moments: Gram, grid: Grid) -> torch.Tensor:
    """Round one input's weights after the other, each from where it makes up best for the errors of those before it.

    Inputs with the largest moments come first, of equal ones the first. With moments R Rᵀ, R upper triangular, errors e
    cost ‖e R‖²: the j-th part of e R depends on e₀…eⱼ alone, and all that follow can still become 0. So weight j is
    rounded from where its part would be 0 (Babai's nearest plane, which GPTQ comes to as well).
    """
    order = torch.argsort(moments.diagonal, dim=1, descending=True, stable=True)
    couplings = moments.ordered(order).triangular_couplings(like=rows)
    places = order[:, :, None].expand_as(rows.mT)
    values = (rows / grid.scale).mT.gather(1, places)
    errors, state = torch.empty_like(values), couplings.start(values)
    for block, within in zip(blocks(values.shape[1]), couplings.within, strict=True):
        wanted = values[:, block] - couplings.product(block, state)
        errors[:, block] = _in_turn(wanted, values[:, block], within, grid)
        couplings.add(block, state, errors[:, block])
    return torch.empty_like(values).scatter(1, places, values + errors).round_().mT * grid.scale


def improved(rounded: torch.Tensor, rows: torch.Tensor, moments: Gram, grid: Grid) -> torch.Tensor:
    """Move each rounded weight to its best integer given all the others, in order, ``SWEEPS`` times: no error grows."""
    couplings = moments.couplings(like=rows)
    values = grid.steps(rounded).mT.contiguous()
    errors = values - (rows / grid.scale).mT
    couplings.add(slice(None), state := couplings.start(values), errors)
    for _ in range(SWEEPS):
        for block, within in zip(blocks(values.shape[1]), couplings.within, strict=True):
            best = values[:, block] - couplings.product(block, state, errors[:, block])
            changes = _in_turn(best, values[:, block], within, grid)
            values[:, block] += changes
            errors[:, block] += changes
            couplings.add(block, state, changes)
    return values.mT * grid.scale


def _in_turn(wanted: torch.Tensor, values: torch.Tensor, effects: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Changes of values [groups, inputs, outputs], in steps of the grid, that bring each to the integer nearest to what
    is wanted, less the ``effects`` [groups, inputs, inputs] of the changes before it.
    """
    lowest, highest = grid.lowest.mT, grid.highest.mT
    changes = torch.empty_like(values)
    effects = effects.mT.contiguous()
    each = zip(wanted.split(1, 1), values.split(1, 1), changes.split(1, 1), strict=True)
    for index, (aim, value, change) in enumerate(each):
        before = effects[:, index : index + 1, :index]
        step = torch.baddbmm(aim, before, changes[:, :index], alpha=-1)
        torch.sub(step.round_().clamp_(lowest, highest), value, out=change)
    return changes
