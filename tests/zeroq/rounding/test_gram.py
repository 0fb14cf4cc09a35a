"""Second moments as columns of few places, beside the matrix that they are."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tests.zeroq.rounding.test_compensated import problem
from zeroq.rounding.compensated import Grid, compensated, greedy, improved
from zeroq.rounding.gram import BLOCK, DenseGram, LowRankGram, upper_factor
from zeroq.rounding.second_moments import SecondMoments


def of_few_places(seed: int, groups: int, inputs: int, places: int) -> tuple[LowRankGram, DenseGram]:
    """The same matrix in both forms."""
    random = torch.Generator().manual_seed(seed)
    columns = torch.randn(groups, inputs, places, generator=random, dtype=torch.float64)
    own = 0.01 + torch.rand(groups, inputs, generator=random, dtype=torch.float64)
    return LowRankGram(columns, own), DenseGram(columns @ columns.mT + own.diag_embed())


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 3),
    outputs=st.integers(1, 4),
    inputs=st.integers(1, 30),
    places=st.integers(1, 12),
    block=st.sampled_from([1, 4, 7, 128]),
)
def test_weights_are_rounded_as_by_the_matrix(seed, groups, outputs, inputs, places, block):
    few, dense = of_few_places(seed, groups, inputs, places)
    rows, _, grid = problem(seed, groups, outputs, inputs, 3, symmetric=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zeroq.rounding.gram.BLOCK", block)
        by_columns, by_matrix = (
            torch.stack(
                [
                    greedy(rows, gram, grid),
                    improved(grid.nearest(rows), rows, gram, grid),
                    compensated(rows, gram, gram, grid),
                ]
            )
            for gram in (few, dense)
        )
    torch.testing.assert_close(by_columns, by_matrix, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("groups", "inputs", "places"), [(1, 9, 3), (3, 20, 4), (2, 3, 8), (1, 1, 1)])
def test_both_forms_say_the_same(groups, inputs, places):
    few, dense = of_few_places(1, groups, inputs, places)
    errors = torch.randn(groups, 5, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    matrix = dense.matrix
    expected = torch.einsum("goi,gij,goj->go", errors, matrix, errors)
    order = torch.stack(
        [torch.randperm(inputs, generator=torch.Generator().manual_seed(each)) for each in range(groups)]
    )
    permuted = torch.stack([own[places][:, places] for own, places in zip(matrix, order, strict=True)])
    kept, floor = torch.linspace(0, 1, groups, dtype=torch.float64), torch.full((groups, 1), 0.5, dtype=torch.float64)
    shrunk = torch.stack([own * share for own, share in zip(matrix, kept, strict=True)])
    shrunk = shrunk.diagonal_scatter(matrix.diagonal(dim1=1, dim2=2) + 0.5, dim1=1, dim2=2)
    for gram in (few, dense):
        torch.testing.assert_close(gram.diagonal, matrix.diagonal(dim1=1, dim2=2))
        torch.testing.assert_close(gram.squares(errors), expected)
        torch.testing.assert_close(gram.sum_of_squares(), matrix.square().sum((1, 2)))
        torch.testing.assert_close(as_matrix(gram.ordered(order)), permuted)
        torch.testing.assert_close(as_matrix(gram.shrunk(kept, floor)), shrunk)


def as_matrix(gram: DenseGram | LowRankGram) -> torch.Tensor:
    """The matrix, whichever form it has."""
    if isinstance(gram, DenseGram):
        return gram.matrix
    return gram.columns @ gram.columns.mT + gram.own.diag_embed()


def test_a_factor_is_upper_triangular():
    _, dense = of_few_places(3, 2, 6, 9)
    factor = upper_factor(dense.matrix)
    assert torch.equal(factor, factor.triu())
    torch.testing.assert_close(factor @ factor.mT, dense.matrix)


@pytest.mark.parametrize(("places", "kind"), [(2, LowRankGram), (3, DenseGram), (9, DenseGram)])
def test_few_places_are_kept_as_columns(places, kind):
    """8 images of a Linear layer with 32 inputs: 16 places are half as many."""
    values = torch.randn(8, places, 32, generator=torch.Generator().manual_seed(0))
    moments = SecondMoments(torch.nn.Linear(32, 2), [values])
    assert isinstance(moments.gram, kind)
    columns = values.flatten(0, 1).double()
    torch.testing.assert_close(
        as_matrix(moments.gram)[0].double() * moments.unit**2, columns.mT @ columns / len(columns), rtol=1e-5, atol=1e-6
    )


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor has that is made inside."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_no_matrix_of_a_wide_layer_is_made():
    """8 images of a Linear layer have 8 places: nothing is larger than a block of its inputs."""
    random = torch.Generator().manual_seed(0)
    rows, values = torch.randn(1, 3, 600, generator=random), torch.randn(8, 600, generator=random)
    grid = Grid(torch.full((1, 3, 1), 0.1), torch.full((1, 3, 1), -8.0), torch.full((1, 3, 1), 7.0))
    with LargestTensor() as largest:
        moments = SecondMoments(torch.nn.Linear(600, 3), [values])
        compensated(rows, moments.gram, moments.shrunk()[0], grid)
    assert largest.elements <= BLOCK**2
