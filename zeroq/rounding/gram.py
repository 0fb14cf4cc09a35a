"""Gram matrices: the second moments of a layer's inputs, which say what errors of its weights do to its output.

Few images have fewer places than a wide layer has inputs: 16 of 112 pixels have 256 beside the 4,608 of ResNet18's last
maps. Their matrix has a low rank and is never made: what rounding needs of it takes time and memory by inputs × places,
not by inputs³ and inputs².
"""

from dataclasses import dataclass
from typing import Protocol, Self

import torch

# Inputs whose effects on the others are applied at once.
BLOCK = 128


@dataclass(frozen=True)
class Couplings:
    """How far errors of inputs draw each input from its best value: products with a matrix A [groups, inputs, inputs].

    A is ``left @ right.mT`` + diag(``own``); ``right=None`` is the identity, ``own=None`` is 0. ``within`` are A's
    blocks on the diagonal, transposed: [i, j] is what an error of input i does to input j.
    """

    left: torch.Tensor
    right: torch.Tensor | None
    own: torch.Tensor | None
    within: list[torch.Tensor]

    def start(self, values: torch.Tensor) -> torch.Tensor:
        """The state that products are made of, while errors are 0; values are [groups, inputs, outputs]."""
        groups, size, _ = self.left.shape if self.right is None else self.right.mT.shape
        return values.new_zeros(groups, size, values.shape[2])

    def add(self, block: slice, state: torch.Tensor, changes: torch.Tensor) -> None:
        """Add changes of the errors of a block to the state."""
        if self.right is None:
            state[:, block] += changes
        else:
            state.baddbmm_(self.right[:, block].mT, changes)

    def product(self, block: slice, state: torch.Tensor, errors: torch.Tensor | None = None) -> torch.Tensor:
        """A's rows of a block times all errors; ``errors`` are the block's own, None while they are 0."""
        product = self.left[:, block] @ state
        if self.own is not None and errors is not None:
            product.addcmul_(self.own[:, block, None], errors)
        return product


class Gram(Protocol):
    """A symmetric matrix H for each group of a layer; positive definite where weights are rounded by it."""

    @property
    def diagonal(self) -> torch.Tensor:
        """Of H, float64 [groups, inputs]."""

    def squares(self, errors: torch.Tensor) -> torch.Tensor:
        """e H eᵀ of each row e of errors [groups, outputs, inputs]: [groups, outputs]."""

    def sum_of_squares(self) -> torch.Tensor:
        """Of all elements, float64 [groups]."""

    def shrunk(self, kept: torch.Tensor, floor: torch.Tensor) -> Self:
        """With a share of its off-diagonal elements, [groups], and more on its diagonal, [groups, 1 or inputs]."""

    def ordered(self, order: torch.Tensor) -> Self:
        """The same with its inputs in another order, [groups, inputs]."""

    def couplings(self, like: torch.Tensor) -> Couplings:
        """Of H, each row divided by its diagonal, in the type of ``like``."""

    def triangular_couplings(self, like: torch.Tensor) -> Couplings:
        """Of Rᵀ, each row divided by its diagonal, where H = R Rᵀ and R is upper triangular.

        So errors e cost ‖e R‖², and its j-th part depends on e₀…eⱼ alone. Products are right for a block while the
        errors of all inputs behind it are 0.
        """


@dataclass(frozen=True)
class DenseGram:
    """H as it is, float [groups, inputs, inputs]."""

    matrix: torch.Tensor

    @property
    def diagonal(self) -> torch.Tensor:
        """As in ``Gram``, and so are the others."""
        return self.matrix.diagonal(dim1=1, dim2=2).double()

    def squares(self, errors: torch.Tensor) -> torch.Tensor:
        return (errors @ self.matrix.to(errors) * errors).sum(2)

    def sum_of_squares(self) -> torch.Tensor:
        return self.matrix.double().square().sum((1, 2))

    def shrunk(self, kept: torch.Tensor, floor: torch.Tensor) -> "DenseGram":
        matrix = self.matrix * kept[:, None, None]
        return DenseGram(matrix.diagonal_scatter(self.diagonal + floor, dim1=1, dim2=2))

    def ordered(self, order: torch.Tensor) -> "DenseGram":
        groups = torch.arange(len(order), device=order.device)[:, None, None]
        return DenseGram(self.matrix[groups, order[:, :, None], order[:, None, :]])

    def couplings(self, like: torch.Tensor) -> Couplings:
        return _whole((self.matrix / self.diagonal[..., None]).to(like))

    def triangular_couplings(self, like: torch.Tensor) -> Couplings:
        factor = upper_factor(self.matrix)
        return _whole((factor / factor.diagonal(dim1=1, dim2=2)[:, None]).to(like).mT)


@dataclass(frozen=True)
class LowRankGram:
    """H = ``columns @ columns.mT`` + diag(``own``): float [groups, inputs, places] and float64 [groups, inputs]."""

    columns: torch.Tensor
    own: torch.Tensor

    @property
    def diagonal(self) -> torch.Tensor:
        """As in ``Gram``, and so are the others."""
        return self.columns.double().square().sum(2) + self.own

    def squares(self, errors: torch.Tensor) -> torch.Tensor:
        return (errors @ self.columns.to(errors)).square().sum(2) + (
            errors.square() * self.own[:, None].to(errors)
        ).sum(2)

    def sum_of_squares(self) -> torch.Tensor:
        columns = self.columns.double()
        between = (columns.mT @ columns).square().sum((1, 2))
        return between + (self.own * (2 * columns.square().sum(2) + self.own)).sum(1)

    def shrunk(self, kept: torch.Tensor, floor: torch.Tensor) -> "LowRankGram":
        own = self.own + (1 - kept)[:, None] * self.columns.double().square().sum(2) + floor
        return LowRankGram(self.columns.double() * kept.sqrt()[:, None, None], own)

    def ordered(self, order: torch.Tensor) -> "LowRankGram":
        return LowRankGram(self.columns.gather(1, order[..., None].expand_as(self.columns)), self.own.gather(1, order))

    def couplings(self, like: torch.Tensor) -> Couplings:
        diagonal = self.diagonal
        within = [
            (self._block(block, self.columns[:, block]) / diagonal[:, None, block]).to(like)
            for block in blocks(self.own.shape[1])
        ]
        left = (self.columns / diagonal[..., None]).to(like)
        return Couplings(left, self.columns.to(like), (self.own / diagonal).to(like), within)

    def triangular_couplings(self, like: torch.Tensor) -> Couplings:
        """By blocks, the last first: what the inputs behind a block leave of the columns is columns @ ``left_over``."""
        groups, inputs, places = self.columns.shape
        columns = self.columns.double()
        left_over = torch.eye(places, dtype=columns.dtype, device=columns.device).repeat(groups, 1, 1)
        left, within = torch.empty_like(columns), []
        for block in reversed(blocks(inputs)):
            reduced = columns[:, block] @ left_over
            factor = upper_factor(self._block(block, reduced))
            diagonal = factor.diagonal(dim1=1, dim2=2)
            solved = torch.linalg.solve_triangular(factor, reduced, upper=True)
            left_over.baddbmm_(solved.mT, solved, alpha=-1)
            left[:, block] = solved / diagonal[..., None]
            within.append((factor / diagonal[:, None]).to(like))
        return Couplings(left.to(like), self.columns.to(like), None, within[::-1])

    def _block(self, block: slice, reduced: torch.Tensor) -> torch.Tensor:
        """The block of H on the diagonal, where one side's columns are reduced."""
        return reduced.double() @ self.columns[:, block].double().mT + self.own[:, block].diag_embed()


def blocks(inputs: int) -> list[slice]:
    """The inputs in blocks."""
    return [slice(start, min(start + BLOCK, inputs)) for start in range(0, inputs, BLOCK)]


def upper_factor(matrix: torch.Tensor) -> torch.Tensor:
    """R of positive definite matrices R Rᵀ, upper triangular."""
    return torch.linalg.cholesky(matrix.flip(1, 2)).flip(1, 2)


def _whole(matrix: torch.Tensor) -> Couplings:
    """The couplings of a matrix as it is."""
    return Couplings(matrix, None, None, [matrix[:, block, block].mT for block in blocks(matrix.shape[1])])
