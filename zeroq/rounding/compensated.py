"""Compensated rounding: each weight is rounded so as to make up for the errors of those rounded before it.

The error that counts is that of the layer's output on images, ‖(Ŵ − W) X‖² = tr (Ŵ − W) H (Ŵ − W)ᵀ with H = X Xᵀ,
one such problem for each group of a convolution. Source: Frantar and Alistarh 2022 (OBQ), Frantar et al. 2023 (GPTQ).
"""

from dataclasses import dataclass

import torch

# Inputs whose effects on the others are applied at once.
BLOCK = 128
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


def compensated(rows: torch.Tensor, moments: torch.Tensor, damped: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Rows of a weight on a grid, with an error on the images that is never above that of rounding to the nearest.

    Args:
        rows: the weight, float [groups, outputs, inputs]; with float32 it takes half as long, and an error that is
            the same but for its last digits may be taken for the smaller one.
        moments: second moments of the inputs on the images, float [groups, inputs, inputs].
        damped: those that rounding goes by, positive definite, float64.
        grid: of the rows.

    Returns:
        [groups, outputs, inputs]; of each output whichever errs less on the images, ``improved(greedy(…))`` or
        rounding to the nearest.
    """
    nearest = grid.nearest(rows)
    found = improved(greedy(rows, damped, grid), rows, damped.to(rows), grid)
    better = output_error(found - rows, moments) < output_error(nearest - rows, moments)
    return torch.where(better[..., None], found, nearest)


def output_error(errors: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each output, [groups, outputs], that errors of its row make under second moments."""
    return (errors @ moments * errors).sum(2)


def greedy(rows: torch.Tensor, moments: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Round one input's weights after the other, each from where it makes up best for the errors of those before it.

    Inputs with the largest moments come first, of equal ones the first. With moments R Rᵀ, R upper triangular, errors e
    cost ‖e R‖²: the j-th part of e R depends on e₀…eⱼ alone, and all that follow can still become 0. So weight j is
    rounded from where its part would be 0 (Babai's nearest plane, which GPTQ comes to as well).
    """
    order = torch.argsort(moments.diagonal(dim1=1, dim2=2), dim=1, descending=True, stable=True)
    groups = torch.arange(len(order), device=order.device)[:, None, None]
    ordered = moments[groups, order[:, :, None], order[:, None, :]]
    factor = torch.linalg.cholesky(ordered.flip(1, 2)).flip(1, 2)
    effects = (factor / factor.diagonal(dim1=1, dim2=2)[:, None]).to(rows)
    places = order[:, :, None].expand_as(rows.mT)
    values = (rows / grid.scale).mT.gather(1, places)
    errors = torch.empty_like(values)
    for block in _blocks(values):
        before = slice(0, block.start)
        wanted = torch.baddbmm(values[:, block], effects[:, before, block].mT, errors[:, before], alpha=-1)
        errors[:, block] = _in_turn(wanted, values[:, block], effects[:, block, block], grid)
    return torch.empty_like(values).scatter(1, places, values + errors).round_().mT * grid.scale


def improved(rounded: torch.Tensor, rows: torch.Tensor, moments: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Move each rounded weight to its best integer given all the others, in order, ``SWEEPS`` times: no error grows."""
    effects = moments / moments.diagonal(dim1=1, dim2=2)[:, None]
    values = grid.steps(rounded).mT.contiguous()
    slopes = effects.mT @ (values - (rows / grid.scale).mT)
    for _ in range(SWEEPS):
        for block in _blocks(values):
            best = values[:, block] - slopes[:, block]
            changes = _in_turn(best, values[:, block], effects[:, block, block], grid)
            values[:, block] += changes
            slopes.baddbmm_(effects[:, block].mT, changes)
    return values.mT * grid.scale


def _blocks(values: torch.Tensor) -> list[slice]:
    """The inputs of [groups, inputs, outputs] in blocks, whose effects on the others are applied at once."""
    return [slice(start, min(start + BLOCK, values.shape[1])) for start in range(0, values.shape[1], BLOCK)]


def _in_turn(wanted: torch.Tensor, values: torch.Tensor, effects: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Changes of values [groups, inputs, outputs], in steps of the grid, that bring each to the integer nearest to what
    is wanted, less the ``effects`` [groups, inputs, inputs] of the changes before it.
    """
    lowest, highest = grid.lowest.mT, grid.highest.mT
    changes = torch.empty_like(values)
    for index in range(values.shape[1]):
        own = slice(index, index + 1)
        step = torch.baddbmm(wanted[:, own], effects[:, :index, own].mT, changes[:, :index], alpha=-1)
        torch.sub(step.round_().clamp_(lowest, highest), values[:, own], out=changes[:, own])
    return changes
