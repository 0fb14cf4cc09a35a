"""Learned rounding: what it may change, that it lowers the error it is told of, and networks of every kind."""

import copy

import pytest
import timm
import torch
from torch import nn

import zeroq
from tests.networks import HandWritten, estimate_statistics, photographs
from zeroq.layers import channel_axis, weighted_layers
from zeroq.quantization.affine import fake_quantize, weight_parameters
from zeroq.quantization.convert import activation_quantizers
from zeroq.rounding.learnable import NEAR, LearnedStep, RoundedWeight, learnable, straight_through
from zeroq.rounding.learned import learn_rounding

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return estimate_statistics(HandWritten(), SHAPE)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    return photographs(32)


def rounded(network: nn.Module, photos: torch.Tensor, placement: str = "layer_inputs") -> nn.Module:
    return zeroq.quantize(network, 3, 4, placement, rounding="compensated", images=photos)


def how(placement: str) -> dict[str, bool]:
    return {"symmetric": placement == "integer", "iterations": 20}


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu", "integer"])
def test_a_weight_stays_on_its_grid_and_biases_and_zero_points_stay(photos, placement):
    torch.manual_seed(0)
    small = timm.create_model("resnet10t", num_classes=7, channels=(16, 32, 64, 64))
    network = estimate_statistics(small, SHAPE)
    before = rounded(network, photos, placement)
    after = copy.deepcopy(before)
    shares = learn_rounding(after, network, photos, **how(placement))
    assert shares
    assert all(0 < share <= 1 for share in shares.values())
    assert min(shares.values()) < 1
    changed = set()
    for (name, one), other in zip(before.state_dict().items(), after.state_dict().values(), strict=True):
        if not torch.equal(one, other):
            changed.add(name.rpartition(".")[2])
    assert changed == {"weight", "scale"}
    for name, layer in weighted_layers(after).items():
        original = network.get_submodule(name).weight
        settings = {"axis": channel_axis(layer), "symmetric": placement == "integer"}
        grid = weight_parameters(original, 3, **settings)
        assert torch.equal(layer.weight, fake_quantize(layer.weight, grid, axis=channel_axis(layer)))
        assert torch.equal(layer.weight_scale, grid.scale)


def test_a_network_of_one_block_errs_less_on_images_held_out(photos):
    torch.manual_seed(2)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)]
    network = nn.Sequential(*layers).eval()
    network(photos)
    before = rounded(network, photos)
    after = copy.deepcopy(before)
    shares = learn_rounding(after, network, photos, iterations=50)
    held_out = torch.cat([photos[::4], photos[::4].flip(3)])
    with torch.no_grad():
        errors = [(each(held_out) - network(held_out)).square().mean().item() for each in (after, before)]
    assert shares == {"0": pytest.approx(errors[0] / errors[1], rel=1e-3)}
    assert errors[0] < errors[1]


def test_what_does_not_err_less_on_images_held_out_stays(network, photos, monkeypatch):
    """With steps so large that nothing is learned."""
    monkeypatch.setattr("zeroq.rounding.learned.WEIGHT_RATE", 50.0)
    monkeypatch.setattr("zeroq.rounding.learned.STEP_RATE", 5.0)
    before = rounded(network, photos)
    after = copy.deepcopy(before)
    assert set(learn_rounding(after, network, photos, iterations=3).values()) == {1}
    assert all(torch.equal(one, after.state_dict()[name]) for name, one in before.state_dict().items())


def test_networks_are_left_as_they_came_and_the_result_is_the_same_again(network, photos):
    state = copy.deepcopy(network.state_dict())
    found = []
    for _ in range(2):
        quantized = rounded(network, photos)
        kinds = [type(module) for module in quantized.modules()]
        learn_rounding(quantized, network, photos, iterations=5)
        assert kinds == [type(module) for module in quantized.modules()]
        found.append(quantized.state_dict())
    assert all(torch.equal(one, found[1][name]) for name, one in found[0].items())
    assert all(torch.equal(one, network.state_dict()[name]) for name, one in state.items())


def test_what_is_shared_or_has_a_forward_of_its_own_keeps_its_integers():
    class Bent(nn.Conv2d):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return nn.functional.silu(super().forward(values))

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.own = nn.Conv2d(3, 6, 3, padding=1), Bent(6, 6, 3, padding=1)
            self.norm, self.shared = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
            self.between = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(4))
            self.last = nn.Linear(6, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            values = torch.relu(self.shared(torch.relu(self.norm(self.own(torch.relu(self.stem(images)))))))
            for layer in self.between:
                values = torch.relu(layer(values))
            return self.last(torch.relu(self.shared(values)).mean((2, 3)))

    torch.manual_seed(0)
    network = estimate_statistics(Shared(), (3, 8, 8))
    images = nn.functional.avg_pool2d(torch.randn(64, 3, 10, 10), 3, stride=1) * 3
    before = zeroq.quantize(network, 2, 8, rounding="compensated", images=images)
    after = copy.deepcopy(before)
    learn_rounding(after, network, images)
    weights = {
        name: (layer.weight, before.get_submodule(name).weight) for name, layer in weighted_layers(after).items()
    }
    kept = {name for name, pair in weights.items() if torch.equal(*pair)}
    assert {"shared", "own"} <= kept
    assert kept < set(weighted_layers(after))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_few_images_and_other_types(network, photos, count, dtype):
    network = copy.deepcopy(network).to(dtype)
    quantized = zeroq.quantize(network, 4, 8, rounding="learned", images=photos[:count])
    assert {parameter.dtype for parameter in quantized.parameters()} == {dtype}
    assert quantized(photos[:2].to(dtype)).isfinite().all()


def test_in_one_call_under_inference_mode_and_again_from_its_state():
    torch.manual_seed(0)
    small = timm.create_model("resnet10t", num_classes=7, channels=(16, 32, 64, 64))
    network = estimate_statistics(small, SHAPE)
    with torch.inference_mode():
        result = zeroq.zero_shot_quantize(network, SHAPE, 4, 4, mixed=False, rounding="learned", count=4, iterations=2)
    learned = result.report["learned_errors"]
    assert learned.keys() < set(result.plan)
    assert result.report["distrusted_correlations"].keys() == result.plan.keys()
    fresh = zeroq.quantize(network, result.plan, 4)
    fresh.load_state_dict(result.model.state_dict())
    assert torch.equal(fresh(result.images.clone()), result.model(result.images.clone()))


def test_a_network_that_cannot_be_traced_is_refused_in_one_sentence(photos):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            values = self.layer(images).mean((2, 3))
            return self.last(values if values.sum() > 0 else -values)

    with pytest.raises(zeroq.ZeroQError, match="cannot be traced"):
        zeroq.quantize(Branching(), 4, 8, rounding="learned", images=photos)


# Parameters


def test_a_weight_starts_at_its_integers_and_passes_gradients():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    original = layer.weight.detach().clone()
    grid = weight_parameters(original, 3)
    layer.weight.data = fake_quantize(original, grid)
    rounding = RoundedWeight(layer, original, grid)
    steps = rounding.right_inverse(layer.weight.detach()).requires_grad_()
    torch.testing.assert_close(rounding(steps), layer.weight, rtol=0, atol=1e-6)
    scale = grid.scale.view(-1, 1, 1, 1)
    assert ((steps * scale - original).abs() <= (layer.weight - original).abs() + 1e-6).all()
    rounding(steps).sum().backward()
    inside = (steps.detach() > rounding.lowest - 0.5) & (steps.detach() < rounding.highest + 0.5)
    assert inside.all()
    torch.testing.assert_close(steps.grad, scale.expand_as(steps))
    assert NEAR < 0.5


def test_a_step_quantizes_as_its_quantizer_does_and_has_the_gradient_of_lsq(network, photos):
    quantizer = next(iter(activation_quantizers(rounded(network, photos)).values()))
    step = LearnedStep(quantizer, torch.Generator()).eval()
    values = torch.linspace(-30, 30, 1001)
    torch.testing.assert_close(step(values), quantizer(values), rtol=0, atol=1e-5)
    step(values).sum().backward()
    # LSQ, equation 3, for the step; its logarithm's is as many times larger as the step.
    ratio, zero, highest = values / quantizer.scale, quantizer.zero_point, 15
    inside = (ratio.round() >= -zero) & (ratio.round() <= highest - zero)
    per_value = torch.where(inside, ratio.round() - ratio, ratio.round().clamp(-zero, highest - zero))
    torch.testing.assert_close(step.change.grad, (per_value * quantizer.scale).sum(), rtol=1e-3, atol=1e-3)


def test_half_of_the_values_pass_while_steps_are_learned(network, photos):
    quantizer = next(iter(activation_quantizers(rounded(network, photos)).values()))
    step = LearnedStep(quantizer, torch.Generator().manual_seed(0)).train()
    values = torch.rand(10_000) * 3 + 0.001
    passed = (step(values) == values).float().mean()
    assert 0.45 < passed < 0.55


def test_a_failure_inside_puts_everything_back(network, photos):
    quantized = rounded(network, photos)
    name, layer = next(iter(weighted_layers(quantized).items()))
    grids = {name: weight_parameters(network.get_submodule(name).weight, 3)}
    before, kind = layer.weight.clone(), type(layer)
    quantizers = activation_quantizers(quantized)
    with (
        pytest.raises(ZeroDivisionError),
        learnable(quantized, {name: network.get_submodule(name).weight}, grids, quantizers, torch.Generator()),
    ):
        raise ZeroDivisionError
    assert type(layer) is kind
    torch.testing.assert_close(layer.weight.detach(), before.detach(), rtol=0, atol=1e-6)
    assert activation_quantizers(quantized) == quantizers


def test_straight_through():
    values = torch.tensor([0.2, 0.7, -1.6, -2.6, 2.9], requires_grad=True)
    found = straight_through(values, torch.tensor(-2), torch.tensor(1))
    found.sum().backward()
    assert found.tolist() == [0, 1, -2, -2, 1]
    assert values.grad.tolist() == [1, 1, 1, 0, 0]
