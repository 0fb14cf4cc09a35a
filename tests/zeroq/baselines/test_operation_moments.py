"""What operations make of moments, against samples of independent normal variables."""

import pytest
import torch
from timm.layers import BatchNormAct2d, StdConv2d
from torch import nn
from torch.nn import functional

from zeroq.baselines.moments import Moments
from zeroq.baselines.operation_moments import moments_behind
from zeroq.baselines.propagation import activation_moments
from zeroq.graph.tracing import trace


def given(shape: tuple[int, ...], seed: int) -> Moments:
    """Different moments everywhere: [1, …]."""
    random = torch.Generator().manual_seed(seed)
    return Moments.normal(torch.randn(1, *shape, generator=random), 0.5 + torch.rand(1, *shape, generator=random))


def samples(moments: Moments) -> torch.Tensor:
    noise = torch.randn(
        40_000, *moments.mean.shape[1:], generator=torch.Generator().manual_seed(int(moments.std.sum() * 1e4))
    )
    return moments.mean + moments.std * noise


class Two(nn.Module):
    """A function of two inputs, as a graph of one node."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, y):
        return self.function(x, y)


def found(function, *inputs) -> Moments:
    graph = trace(Two(function))
    node = next(node for node in graph.graph.nodes if node.op.startswith("call"))
    values = dict(zip([each for each in graph.graph.nodes if each.op == "placeholder"], inputs, strict=True))
    arguments, named = torch.fx.node.map_arg((node.args, node.kwargs), lambda each: values[each])
    return moments_behind(graph, node, arguments, named)


INDEPENDENT = {
    "sum": (lambda x, y: x + y, (3, 4), (3, 4)),
    "sum with a broadcast one": (lambda x, y: x + y, (3, 4), (1, 4)),
    "difference": (lambda x, y: x - y, (3, 4), (3, 4)),
    "difference with a multiple": (lambda x, y: torch.sub(x, y, alpha=2), (3, 4), (3, 4)),
    "product": (lambda x, y: x * y, (3, 4), (3, 4)),
    "gate": (lambda x, y: x * y, (3, 4), (3, 1)),
    "matrix product": (lambda x, y: x @ y, (3, 4), (4, 5)),
    "batched": (lambda x, y: torch.bmm(x, y), (3, 4), (4, 5)),
    "einsum": (lambda x, y: torch.einsum("nij,nkj->nik", x, y), (3, 4), (5, 4)),
}


@pytest.mark.parametrize(("function", "one", "other"), INDEPENDENT.values(), ids=INDEPENDENT)
def test_operations_of_independent_activations(function, one, other):
    inputs = given(one, 1), given(other, 2)
    output, values = found(function, *inputs), function(*(samples(each) for each in inputs))
    assert (output.mean[0] - values.mean(0)).abs().max() < 0.05
    assert torch.allclose(output.std[0], values.std(0), rtol=0.05)
    assert (
        (values >= output.low) & (values <= output.high)
    ).float().mean() > 0.999  # a product has longer tails than a normal variable


def test_a_product_with_what_is_a_gate_reaches_no_further():
    gate = Moments(*(torch.full((1, 3, 1), value) for value in (0.5, 0.1, 0.0, 1.0)))
    values = given((3, 4), 1)
    output = found(lambda x, y: x * y, values, gate)
    assert (output.low >= values.low.clamp(max=0)).all()
    assert (output.high <= values.high.clamp(min=0)).all()


def test_a_quotient_of_two_activations():
    one = given((3, 4), 1)
    other = Moments.normal(torch.full((1, 3, 4), 10.0), torch.ones(1, 3, 4))
    output, values = found(lambda x, y: x / y, one, other), samples(one) / samples(other)
    assert torch.allclose(output.mean[0], values.mean(0), atol=0.01)
    assert torch.allclose(output.std[0], values.std(0), rtol=0.05)


def test_scores_are_weights():
    scores = given((3, 4), 1)
    output, values = found(lambda x, y: torch.softmax(x, -1), scores, scores), samples(scores).softmax(-1)
    assert (output.low.unique().item(), output.high.unique().item()) == (0, 1)
    assert torch.allclose(output.mean.sum(-1), torch.ones(1, 3))
    assert (output.mean[0] - values.mean(0)).abs().max() < 0.1
    assert (output.std[0] >= values.std(0)).all()  # a choice is the extreme


def test_attention_stays_within_its_values():
    inputs, values = given((5, 8), 1), given((5, 8), 2)
    output = found(lambda x, y: functional.scaled_dot_product_attention(x, x, y), inputs, values)
    assert output.mean.shape == (1, 5, 8)
    assert (output.std <= values.std.amax(-2, keepdim=True)).all()
    assert torch.equal(output.low, values.low.amin(-2, keepdim=True).expand(1, 5, 8))


def test_sums_over_axes_rise_and_fall_alike():
    values = given((3, 4), 1)
    output = found(lambda x, y: x.sum(-1), values, values)
    for name in ("mean", "std", "low", "high"):
        assert torch.allclose(getattr(output, name), getattr(values, name).sum(-1))


def test_constants_beside_activations_do_not_vary():
    values, constant = given((3, 4), 1), torch.full((1, 2, 4), 2.0)
    output = found(lambda x, y: torch.cat([y, x], 1), values, constant)
    assert torch.equal(output.mean[:, :2], constant)
    assert not output.std[:, :2].any()
    assert torch.equal(output.std[:, 2:], values.std)
    assert torch.equal(output.low[:, :2], constant)


def test_nothing_is_told_of_what_has_no_rule():
    values = given((3, 4), 1)
    assert found(lambda x, y: torch.cumsum(x, 1), values, values) is None
    assert found(lambda x, y: torch.div(x, y, rounding_mode="floor"), values, given((3, 4), 2)) is None


@pytest.mark.parametrize(
    ("norm", "mean", "std"),
    [
        (nn.GroupNorm(2, 4), [1.0, 2, 3, 4], [0.5, 1, 2, 3]),
        (nn.InstanceNorm2d(4, affine=True), [1.0, 2, 3, 4], [0.5, 1, 2, 3]),
        (nn.BatchNorm2d(4), [1.0, 2, 3, 4], [0.5, 1, 2, 3]),
        (nn.LayerNorm([4, 6, 6], elementwise_affine=False), [0.0] * 4, [1.0] * 4),
        (nn.RMSNorm([4, 6, 6], elementwise_affine=False), [0.0] * 4, [1.0] * 4),
    ],
)
def test_what_normalizes_says_its_own_moments(norm, mean, std):
    if getattr(norm, "weight", None) is not None:
        norm.weight.data, norm.bias.data = -torch.tensor(std), torch.tensor(mean)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax2d(), norm, nn.Conv2d(4, 4, 1)).eval()
    inputs, _ = activation_moments(trace(network), (3, 8, 8))
    (seen,) = inputs["3"]
    assert not seen.measured  # whatever is in front
    assert seen.mean.shape == (1, 4, 6, 6)
    assert torch.equal(seen.mean[0, :, 0, 0], torch.tensor(mean))
    assert torch.equal(seen.high[0, :, 1, 1], torch.tensor(mean) + 6 * torch.tensor(std))


def test_layer_norm_s_weights_lie_along_the_last_axis():
    class Normalized(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.layer = nn.LayerNorm(4), nn.Linear(4, 2)
            self.norm.weight.data = torch.tensor([0.5, -1, 2, 3])

        def forward(self, x):
            x = functional.layer_norm(x, (4,), weight=self.norm.weight, bias=None)
            return self.layer(functional.group_norm(self.norm(x), 3)) + self.layer(self.norm(x))

    grouped, last = activation_moments(trace(Normalized()), (3, 5, 4))[0]["layer"]
    assert torch.equal(last.std, torch.tensor([0.5, 1, 2, 3]).expand(1, 3, 5, 4))
    assert torch.equal(grouped.std, torch.ones(1, 3, 5, 4))


def test_what_has_no_rule_is_measured_and_named():
    class Cumulative(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(3))
            self.norm, self.relu = nn.BatchNorm2d(3), nn.ReLU()

        def forward(self, x):
            x = self.layers[0](torch.cumsum(x, 2) + 1)
            x = self.layers[1](torch.sort(self.relu(x), 1)[0] * 2)
            return self.layers[2](self.norm(x))

    limits = ([-1.0] * 3, [1.0] * 3)
    network = Cumulative().eval()
    inputs, relu_outputs = activation_moments(trace(network), (3, 8, 8), limits)
    first, second, third = (inputs[f"layers.{index}"][0] for index in range(3))
    assert first.measured == {"cumsum"}
    assert relu_outputs["relu"][0].measured == {"cumsum"}
    assert second.measured == {"cumsum", "sort"}
    assert not third.measured
    images = torch.randn(4000, 3, 8, 8, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    sums = torch.cumsum(images, 2) + 1
    assert first.mean.shape == (1, 3, 8, 8)
    assert first.std.mean() == pytest.approx(sums.std(0).mean().item(), rel=0.1)
    assert sums.min() <= first.low.min() < 1 - 2 * sums.std()
    assert sums.max() >= first.high.max() > 1 + 2 * sums.std()


def test_a_layer_that_is_more_than_its_weight_is_measured():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), StdConv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    inputs, _ = activation_moments(trace(network), (3, 8, 8))
    assert not inputs["1"][0].measured
    assert inputs["3"][0].measured == {"_1"}


def test_a_batch_norm_with_an_activation_of_its_own_is_not_taken_for_a_plain_one():
    network = nn.Sequential(BatchNormAct2d(3), nn.Conv2d(3, 4, 1)).eval()
    (seen,) = activation_moments(trace(network), (3, 8, 8))[0]["1"]
    assert seen.low.min() == 0
