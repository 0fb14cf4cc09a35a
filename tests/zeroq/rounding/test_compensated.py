"""Compensated rounding against a solver that knows no shortcut, and against rounding to the nearest."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroq.quantization.affine import weight_parameters
from zeroq.rounding.compensated import Grid, compensated, greedy, improved
from zeroq.rounding.gram import DenseGram


def problem(seed: int, groups: int, outputs: int, inputs: int, bits: int, *, symmetric: bool) -> tuple:
    """Rows, second moments of correlated inputs, and a grid, one scale a row."""
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(groups, outputs, inputs, generator=random, dtype=torch.float64)
    mixing = torch.randn(groups, inputs, inputs, generator=random, dtype=torch.float64)
    samples = mixing @ torch.randn(groups, inputs, 3 * inputs, generator=random, dtype=torch.float64)
    moments = samples @ samples.transpose(1, 2) / samples.shape[2]
    scale, zero, lowest, highest = weight_parameters(rows.flatten(0, 1), bits, symmetric=symmetric)
    shape = (groups, outputs, 1)
    zero = zero.double().view(shape)
    return rows, moments, Grid(scale.double().view(shape), lowest - zero, highest - zero)


def brute_force(rows: torch.Tensor, moments: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Round the remaining weight of the largest moment, then solve the least squares of the rest again, one by one."""
    result = torch.empty_like(rows)
    for group in range(len(rows)):
        order = sorted(range(rows.shape[2]), key=lambda index: -moments[group, index, index].item())
        for output in range(rows.shape[1]):
            current, fixed = rows[group, output].clone(), torch.zeros_like(rows[group, output])
            for position, index in enumerate(order):
                steps = (current[index] / grid.scale[group, output, 0]).round()
                steps = steps.clamp(grid.lowest[group, output, 0], grid.highest[group, output, 0])
                fixed[index] = steps * grid.scale[group, output, 0]
                done, rest = order[: position + 1], order[position + 1 :]
                if rest:
                    errors = (fixed - rows[group, output])[done]
                    square, beside = moments[group][rest][:, rest], moments[group][rest][:, done]
                    current[rest] = rows[group, output][rest] - torch.linalg.solve(square, beside @ errors)
            result[group, output] = fixed
    return result


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("groups", "outputs", "inputs"), [(1, 3, 12), (4, 1, 9), (2, 2, 5), (1, 2, 1)])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_greedy_is_what_solving_again_after_every_weight_gives(bits, groups, outputs, inputs, symmetric):
    rows, moments, grid = problem(bits, groups, outputs, inputs, bits, symmetric=symmetric)
    torch.testing.assert_close(
        greedy(rows, DenseGram(moments), grid), brute_force(rows, moments, grid), rtol=0, atol=1e-9
    )


def test_blocks_do_not_change_the_result(monkeypatch):
    rows, moments, grid = problem(0, 2, 3, 50, 3, symmetric=False)
    gram = DenseGram(moments)
    whole = greedy(rows, gram, grid), improved(grid.nearest(rows), rows, gram, grid)
    monkeypatch.setattr("zeroq.rounding.gram.BLOCK", 7)
    parts = greedy(rows, gram, grid), improved(grid.nearest(rows), rows, gram, grid)
    assert all(torch.allclose(one, other, atol=1e-9) for one, other in zip(whole, parts, strict=True))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    groups=st.integers(1, 3),
    outputs=st.integers(1, 4),
    inputs=st.integers(1, 12),
    bits=st.integers(2, 8),
    damping=st.sampled_from([0.0, 0.1, 10.0]),
)
def test_no_output_errs_more_than_rounded_to_the_nearest(seed, groups, outputs, inputs, bits, damping):
    rows, moments, grid = problem(seed, groups, outputs, inputs, bits, symmetric=False)
    damped = DenseGram(moments + (damping + 1e-9) * torch.eye(inputs, dtype=torch.float64))
    found, nearest = compensated(rows, DenseGram(moments), damped, grid), grid.nearest(rows)
    assert torch.allclose(found, grid.nearest(found), rtol=0, atol=1e-12)  # on the grid
    allowed = DenseGram(moments).squares(nearest - rows)
    assert (DenseGram(moments).squares(found - rows) <= allowed * (1 + 1e-9)).all()


def test_improving_never_errs_more():
    rows, moments, grid = problem(1, 2, 3, 20, 2, symmetric=False)
    nearest, gram = grid.nearest(rows), DenseGram(moments)
    before, after = (gram.squares(each - rows) for each in (nearest, improved(nearest, rows, gram, grid)))
    assert (after <= before).all()
    assert (after < before).any()


def test_inputs_without_correlations_are_rounded_to_the_nearest():
    rows, moments, grid = problem(2, 1, 4, 30, 3, symmetric=False)
    alone = DenseGram(torch.diag_embed(moments.diagonal(dim1=1, dim2=2)))
    assert torch.equal(compensated(rows, alone, alone, grid), grid.nearest(rows))
