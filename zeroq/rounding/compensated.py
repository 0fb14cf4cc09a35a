"""Compensated rounding: each weight is rounded so as to make up for the errors of those rounded before it.

The error that counts is that of the layer's output on images, ‖(Ŵ − W) X‖² = tr (Ŵ − W) H (Ŵ − W)ᵀ with H = X Xᵀ,
one such problem for each group of a convolution. Source: Frantar and Alistarh 2022 (OBQ), Frantar et al. 2023 (GPTQ).
"""

from dataclasses import dataclass

import torch

# Columns whose updates are applied to the others at once.
BLOCK = 128
# Passes over all weights in which each may still move to a better integer.
SWEEPS = 2


@dataclass(frozen=True)
class Grid:
    """The values that the rows of a weight may take: ``scale`` times the integers from ``lowest`` to ``highest``.

    Each broadcasts with rows [groups, outputs, inputs]; the integers are those less the zero point.
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

    def column(self) -> "Grid":
        """The grid of one column of the rows, [groups, outputs]."""
        return Grid(self.scale[..., 0], self.lowest[..., 0], self.highest[..., 0])


def compensated(rows: torch.Tensor, moments: torch.Tensor, damped: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Rows of a weight on a grid, with an error on the images that is never above that of rounding to the nearest.

    Args:
        rows: the weight, float64 [groups, outputs, inputs].
        moments: second moments of the inputs on the images, float64 [groups, inputs, inputs].
        damped: those that rounding goes by, positive definite.
        grid: with one scale for each output, or one for all.

    Returns:
        [groups, outputs, inputs]; of each output whichever errs less on the images, ``improved(greedy(…))`` or
        rounding to the nearest.
    """
    nearest = grid.nearest(rows)
    found = improved(greedy(rows, damped, grid), rows, damped, grid)
    better = output_error(found - rows, moments) < output_error(nearest - rows, moments)
    return torch.where(better[..., None], found, nearest)


def output_error(errors: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
    """Mean squared error of each output, [groups, outputs], that errors of its row make under second moments."""
    return (errors @ moments * errors).sum(2)


def greedy(rows: torch.Tensor, moments: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Round one input's weights after the other, and change those not yet rounded so that they make up for it.

    Inputs with the largest moments come first, of equal ones the first. What remains is always the least-squares
    solution given what is rounded, so that each weight is rounded from where it does least harm.
    """
    order = torch.argsort(moments.diagonal(dim1=1, dim2=2), dim=1, descending=True, stable=True)
    values = rows.gather(2, order[:, None, :].expand_as(rows)).clone()
    square = order[:, :, None].expand_as(moments)
    ordered = moments.gather(1, square).gather(2, square.transpose(1, 2))
    # Row j of the inverse's Cholesky factor says how the weights behind j follow from an error at j.
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    factor = torch.linalg.cholesky(inverse, upper=True)
    column = grid.column()
    rounded = torch.empty_like(values)
    for start in range(0, values.shape[2], BLOCK):
        block = slice(start, min(start + BLOCK, values.shape[2]))
        errors = torch.empty_like(values[:, :, block])
        for index in range(block.start, block.stop):
            rounded[:, :, index] = column.nearest(values[:, :, index])
            error = (values[:, :, index] - rounded[:, :, index]) / factor[:, index, index, None]
            errors[:, :, index - start] = error
            behind = slice(index + 1, block.stop)
            values[:, :, behind] -= error[..., None] * factor[:, None, index, behind]
        values[:, :, block.stop :] -= errors @ factor[:, block, block.stop :]
    return torch.empty_like(rounded).scatter(2, order[:, None, :].expand_as(rows), rounded)


def improved(rounded: torch.Tensor, rows: torch.Tensor, moments: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Move each rounded weight to its best integer given all the others, in order, ``SWEEPS`` times: no error grows."""
    values = rounded.clone()
    slopes = (values - rows) @ moments
    diagonal, column = moments.diagonal(dim1=1, dim2=2), grid.column()
    for _ in range(SWEEPS):
        for start in range(0, values.shape[2], BLOCK):
            block = slice(start, min(start + BLOCK, values.shape[2]))
            own, before = slopes[:, :, block].clone(), values[:, :, block].clone()
            for index in range(block.start, block.stop):
                best = values[:, :, index] - own[:, :, index - start] / diagonal[:, None, index]
                change = column.nearest(best) - values[:, :, index]
                values[:, :, index] += change
                own += change[..., None] * moments[:, None, index, block]
            slopes += (values[:, :, block] - before) @ moments[:, block, :]
    return values
