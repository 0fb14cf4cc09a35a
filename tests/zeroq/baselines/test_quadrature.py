"""Moments of functions of a normal variable, against its quantiles."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.networks import normal_chain
from zeroq.baselines.moments import Moments
from zeroq.baselines.propagation import activation_moments
from zeroq.baselines.quadrature import moments_of_function
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.tracing import trace

# Of ``normal_chain``.
MEANS = torch.tensor([-1.0, 0.5, 5.0, 20.0], dtype=torch.float64)
DEVIATIONS = torch.tensor([1.0, 2.0, 0.7, 3.0], dtype=torch.float64)
FACTORS = torch.tensor([1.5, -2.0, 0.1, 0.3]).view(4, 1, 1)


class Applied(nn.Module):
    """A function as a module whose code is traced."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def prelu() -> nn.PReLU:
    layer = nn.PReLU(4)
    layer.weight.data = torch.tensor([0.1, -0.5, 2.0, 0.3])
    return layer


MODULES = [
    *(nn.Sigmoid(), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.GELU(), nn.GELU("tanh"), nn.Mish(), nn.ELU(0.5)),
    *(nn.SELU(), nn.CELU(), nn.Softplus(), nn.Tanh(), nn.Softsign(), nn.Tanhshrink(), nn.LogSigmoid()),
    *(nn.Hardshrink(), nn.Softshrink(), nn.LeakyReLU(0.2), nn.LeakyReLU(-0.5), prelu(), nn.ReLU(), nn.ReLU6()),
]
FUNCTIONS = {
    "silu": functional.silu,
    "sigmoid": lambda x: x.sigmoid(),
    "swish by hand": lambda x: x * torch.sigmoid(x),
    "hard swish by hand": lambda x: x * functional.relu6(x + 3) / 6,
    "hard sigmoid by hand": lambda x: (x / 6 + 0.5).clamp(0, 1),
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "square": lambda x: x * x,
    "power": lambda x: x**3,
    "exponential": lambda x: torch.exp(0.1 * x),
    "root": lambda x: x.abs().sqrt(),
    "negative": lambda x: -x,
    "multiple": lambda x: x * FACTORS,
    "sum": lambda x: 3 - x,
    "shifted": lambda x: x + FACTORS,
    "share": lambda x: x / FACTORS,
    "inverse": lambda x: 1 / (x * x + 1),
    "comparison": lambda x: (x > 0.5) * 2.0,
    "choice": lambda x: torch.where(x > 0, x, 0.1 * x),
    "mask": lambda x: x.masked_fill(x < 0, 0.0),
    "cut at tensors": lambda x: torch.clamp(x, min=FACTORS),
}
NAMES = [*(repr(each) for each in MODULES), *FUNCTIONS]
CASES = [*MODULES, *(Applied(function) for function in FUNCTIONS.values())]
# With a step or an infinite slope.
ROUGH = [case for case, name in zip(CASES, NAMES, strict=True) if name in ("Hardshrink(0.5)", "comparison", "root")]


@pytest.mark.parametrize("activation", CASES, ids=NAMES)
def test_functions_of_each_value(activation):
    network = normal_chain(activation).double()
    (found,) = activation_moments(fold_batch_norms(trace(network)), (4, 4, 4))[0]["3"]
    shape = (1, 4, 1, 1)
    probabilities = (torch.arange(200_000, dtype=torch.float64).view(-1, 1, 1, 1) + 0.5) / 200_000
    samples = MEANS.view(shape) + DEVIATIONS.view(shape) * torch.special.ndtri(probabilities)
    reach = torch.linspace(-6, 6, 20_001, dtype=torch.float64).view(-1, 1, 1, 1)
    with torch.no_grad():
        values = activation(samples)
        ends = activation(MEANS.view(shape) + DEVIATIONS.view(shape) * reach)
    std = values.std(0).flatten().double()
    accuracy = 0.05 if activation in ROUGH else 3e-3
    assert not found.measured
    assert ((found.mean[0, :, 0, 0] - values.mean(0).flatten()).abs() <= accuracy * std + 1e-5).all()
    assert torch.allclose(found.std[0, :, 0, 0], std, rtol=accuracy, atol=2e-3)
    extent = ends.amax((0, 2, 3)) - ends.amin((0, 2, 3))
    assert ((found.low[0, :, 0, 0] - ends.amin((0, 2, 3))).abs() <= max(accuracy, 0.01) * extent).all()
    assert ((found.high[0, :, 0, 0] - ends.amax((0, 2, 3))).abs() <= max(accuracy, 0.01) * extent).all()


def test_a_function_of_what_is_cut_sees_nothing_beyond():
    given = Moments(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[-1.0, -3]]), torch.tensor([[2.0, 0.5]]))
    found = moments_of_function(torch.exp, given)
    assert torch.allclose(found.low, given.low.exp())
    assert torch.allclose(found.high, given.high.exp())
    samples = torch.randn(400_000, 2, generator=torch.Generator().manual_seed(0)).clamp(given.low, given.high).exp()
    assert torch.allclose(found.mean[0], samples.mean(0), atol=0.01)
    assert torch.allclose(found.std[0], samples.std(0), atol=0.01)


def test_what_does_not_vary():
    constant = Moments.constant(torch.tensor([[0.5, -2.0]]))
    found = moments_of_function(functional.gelu, constant)
    assert torch.equal(found.mean, functional.gelu(constant.mean))
    assert not found.std.any()
    assert torch.equal(found.low, found.high)


def test_the_given_moments_stay_as_they_are():
    given = Moments.normal(torch.zeros(1, 3), torch.ones(1, 3))
    moments_of_function(functional.relu_, given)
    assert not given.mean.any()
    assert (given.low == -6).all()
