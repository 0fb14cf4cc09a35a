"""Where a distribution says to clip, against numerical integrals, scipy's minimum and samples."""

import numpy
import pytest
import scipy
import torch

from zeroq.baselines.analytic_clipping import analytic_range, laplace_clipping, normal_clipping

DENSITIES = {laplace_clipping: scipy.stats.laplace.pdf, normal_clipping: scipy.stats.norm.pdf}


@pytest.mark.parametrize("clipping", DENSITIES)
@pytest.mark.parametrize("bits", range(2, 10))
def test_the_least_of_the_expected_squared_error(clipping, bits):
    def expected(alpha: float) -> float:
        density = DENSITIES[clipping]
        beyond, _ = scipy.integrate.quad(lambda x: (x - alpha) ** 2 * density(x), alpha, 60, epsabs=1e-14)
        return 2 * beyond + (2 * alpha / 2**bits) ** 2 / 12

    best = scipy.optimize.minimize_scalar(expected, bounds=(0.5, 20), method="bounded", options={"xatol": 1e-6})
    assert clipping(bits) == pytest.approx(best.x, rel=2e-3)
    assert expected(clipping(bits)) <= best.fun * (1 + 1e-6)


def test_the_numbers_that_the_paper_prints():
    assert [laplace_clipping(bits) for bits in (2, 3, 4)] == pytest.approx([2.83, 3.89, 5.03], abs=0.01)
    assert [normal_clipping(bits) for bits in (2, 3, 4)] == pytest.approx([1.71, 2.15, 2.55], abs=0.01)
    assert laplace_clipping(6) == pytest.approx(scipy.special.lambertw(3 * 4**6).real)


def sample(name: str) -> torch.Tensor:
    random = numpy.random.default_rng(0)
    drawn = {"laplace": random.laplace, "normal": random.normal}[name](1.5, 2.0, 200_000)
    return torch.tensor(drawn, dtype=torch.float32).view(2, 4, -1)


@pytest.mark.parametrize(("name", "clipping"), [("laplace", laplace_clipping), ("normal", normal_clipping)])
@pytest.mark.parametrize("bits", [2, 4])
def test_a_sample_is_clipped_as_its_own_distribution(name, clipping, bits):
    ends = [end.item() for end in analytic_range(sample(name), bits)]
    assert ends == pytest.approx([1.5 - 2 * clipping(bits), 1.5 + 2 * clipping(bits)], rel=0.01)


@pytest.mark.parametrize(("name", "clipping"), [("laplace", laplace_clipping), ("normal", normal_clipping)])
def test_behind_a_relu_half_of_it_has_all_values(name, clipping):
    low, high = analytic_range((sample(name) - 1.5).relu(), 4)
    assert low == 0
    assert high.item() == pytest.approx(2 * clipping(5), rel=0.02)


def test_never_beyond_what_was_seen():
    values = torch.linspace(-1, 1, 101)
    assert [end.item() for end in analytic_range(values, 8)] == [-1, 1]
    assert [end.item() for end in analytic_range(values.abs(), 8)] == [0, 1]
    assert [end.item() for end in analytic_range(torch.zeros(3, 4), 8)] == [0, 0]
    assert [end.item() for end in analytic_range(torch.full((5,), 2.0), 4)] == [0, 2]
