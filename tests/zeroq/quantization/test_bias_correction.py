"""Bias correction: what BatchNorm implies about activations, and means that quantization no longer shifts."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import zeroq
from tests.networks import HandWritten, normal_chain, outputs
from zeroq.baselines.clipped_normal import clipped_normal_moments
from zeroq.baselines.dfq import Steps
from zeroq.baselines.moments import activation_moments
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.tracing import trace
from zeroq.pipeline import quantize_with_dfq
from zeroq.quantization.bias_correction import correct_biases, mean_outputs
from zeroq.settings import Settings

NO_STEPS = Steps(replace_relu6=False, equalize=False, absorb=False)


@pytest.mark.parametrize(("low", "high"), [(0, torch.inf), (0, 6), (-torch.inf, torch.inf), (-1, 1)])
def test_clipped_normal_moments_agree_with_monte_carlo(low, high):
    mean, std = torch.tensor([-3.0, 0, 0.5, 4, 7, 2]), torch.tensor([1.0, 2, 0.3, 3, 1, 0])
    samples = mean + std * torch.randn(1_000_000, 6, generator=torch.Generator().manual_seed(0))
    clipped = samples.clamp(low, high).double()
    found_mean, found_std = clipped_normal_moments(mean, std, low, high)
    assert torch.allclose(found_mean.double(), clipped.mean(0), atol=0.01)
    assert torch.allclose(found_std.double(), clipped.std(0), atol=0.01)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.Identity()])
def test_analytic_bias_correction_agrees_with_monte_carlo(activation):
    network = normal_chain(activation)
    images = torch.randn(16, 4, 128, 128, generator=torch.Generator().manual_seed(1))
    plan = {"0": 32, "3": 3}
    shifts = {}
    for correction in ("none", "analytic"):
        settings = Settings(plan, 32, mixed=False, per_channel=False, bias_correction=correction)
        result = quantize_with_dfq(network, (4, 128, 128), settings, NO_STEPS)
        shifts[correction] = (outputs(result.model, images) - outputs(network, images)).mean((0, 2, 3))
    assert shifts["none"].abs().max() > 0.5  # rounding shifts the mean
    assert shifts["analytic"].abs().max() < 0.02 * shifts["none"].abs().max()


def test_ranges_are_six_deviations_of_batch_norm_and_the_image_s_limits():
    network = normal_chain(nn.ReLU())
    limits = ([-2.0] * 4, [2.5] * 4)
    inputs, outputs_of_relu = activation_moments(fold_batch_norms(trace(network)), (4, 8, 8), limits)
    (image,), (second,) = inputs["0"], inputs["3"]
    assert (image.low.min().item(), image.high.max().item()) == (-2, 2.5)
    assert (second.low.min().item(), second.high.max().item()) == pytest.approx((0, 20 + 6 * 3))
    assert second.mean.mean((0, 2, 3))[1] == pytest.approx(clipped_normal_moments(*torch.tensor([0.5, 2]), 0)[0])
    assert outputs_of_relu["2"][0].high.max() == second.high.max()


def test_sums_and_layers_without_statistics_take_inputs_as_independent():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x):
            return self.last(self.one(x[:, :3]) + self.two(x[:, 3:]))

    torch.manual_seed(0)
    network = Sum().eval()
    inputs, _ = activation_moments(trace(network), (6, 4, 4))
    samples = torch.randn(200, 6, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        summed = network.one(samples[:, :3]) + network.two(samples[:, 3:])
    (found,) = inputs["last"]
    assert torch.allclose(found.mean[0, :, 0, 0], summed.mean((0, 2, 3)), atol=0.01)
    assert torch.allclose(found.std[0, :, 0, 0], summed.std((0, 2, 3)), atol=0.01)


def test_empirical_correction_of_shared_layers_and_those_without_bias(hand_written, images):
    wanted, distances = mean_outputs(hand_written, images), {}
    for correction in ("none", "empirical"):
        settings = Settings(3, 8, mixed=False, bias_correction=correction)
        result = zeroq.quantize_with_images(hand_written, images, settings)
        found = mean_outputs(result.model, images)
        distances[correction] = {
            name: (torch.stack(found[name]).mean(0) - torch.stack(wanted[name]).mean(0)).abs().max() for name in wanted
        }
    assert distances["empirical"]["head"] < 1e-4
    assert torch.equal(result.model.stem.bias, hand_written.stem.bias)  # it would double what it is given
    # A layer that feeds itself cannot be corrected exactly.
    for name in ("blocks.0.shared", "blocks.1.shared"):
        assert distances["empirical"][name] < distances["none"][name]
    again = zeroq.quantize(HandWritten(), 8, 8)
    again.load_state_dict(result.model.state_dict())
    assert torch.equal(again(images), result.model(images))


class Several(nn.Module):
    """One layer that sees two different inputs, a sum of rectified values, and a sum with a multiple."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.shared, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        one, two = functional.relu(self.one(x)), functional.relu(self.two(x) + 3)
        seen = self.shared(one) + self.shared(10 + two)
        return self.last(one + two), torch.add(one, other=two, alpha=-2), seen


def test_moments_of_sums_agree_with_monte_carlo():
    torch.manual_seed(0)
    network = Several().eval()
    samples = torch.randn(100, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    inputs, _ = activation_moments(trace(network), (3, 4, 4))
    with torch.no_grad():
        one, two = functional.relu(network.one(samples)), functional.relu(network.two(samples) + 3)
    (found,) = inputs["last"]
    assert torch.allclose(found.mean[0, :, 0, 0], (one + two).mean((0, 2, 3)), atol=0.02)
    assert found.low.min() == 0  # of two rectified values
    first, second = inputs["shared"]
    assert torch.allclose(first.mean[0, :, 0, 0], one.mean((0, 2, 3)), atol=0.02)
    assert torch.allclose(second.mean[0, :, 0, 0], 10 + two.mean((0, 2, 3)), atol=0.02)


class Multiple(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.last(torch.add(self.one(x), other=functional.relu(self.two(x)), alpha=-2))


@pytest.mark.parametrize(("factor", "ends"), [(1, (-2, 4)), (-2, (-5, 4))])
def test_a_sum_reaches_no_further_than_its_parts(factor, ends):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.layer(torch.add(x, x, alpha=factor))

    (found,) = activation_moments(trace(Sum()), (3, 4, 4), ([-1.0] * 3, [2.0] * 3))[0]["layer"]
    assert (found.low.unique().item(), found.high.unique().item()) == ends  # less than six deviations of the sum


def test_moments_of_a_sum_with_a_multiple():
    torch.manual_seed(0)
    network = Multiple().eval()
    # The two layers see different channels, so that their outputs are independent.
    network.one.weight.data[:, 1:] = 0
    network.two.weight.data[:, :1] = 0
    samples = torch.randn(100, 3, 60, 60, generator=torch.Generator().manual_seed(0))
    (found,) = activation_moments(trace(network), (3, 4, 4))[0]["last"]
    with torch.no_grad():
        sums = network.one(samples) - 2 * functional.relu(network.two(samples))
    assert torch.allclose(found.mean[0, :, 0, 0], sums.mean((0, 2, 3)), atol=0.02)
    assert torch.allclose(found.std[0, :, 0, 0], sums.std((0, 2, 3)), atol=0.02)


def test_a_layer_that_is_called_twice_is_corrected_for_the_mean_of_its_inputs():
    torch.manual_seed(0)
    network = Only(Several()).double().eval()
    inputs, _ = activation_moments(trace(network), (3, 4, 4))
    mean = torch.stack([seen.mean[0, :, 0, 0] for seen in inputs["network.shared"]]).mean(0)
    assert mean.dtype == torch.float64
    layers = []
    for correction in ("none", "analytic"):
        result = quantize_with_dfq(network, (3, 4, 4), Settings(3, 8, mixed=False, bias_correction=correction))
        layers.append(result.model.get_submodule("network.shared"))
    error = (layers[0].weight - network.network.shared.weight)[..., 0, 0] @ mean
    assert torch.allclose(layers[1].bias, layers[0].bias - error)


def test_a_layer_that_is_called_twice_has_a_range_for_both():
    torch.manual_seed(0)
    result = quantize_with_dfq(Only(Several()), (3, 4, 4), Settings(8, 8, mixed=False))
    quantizer = result.model.get_submodule("network.shared").input_quantizer
    inputs, _ = activation_moments(trace(Several()), (3, 4, 4))
    highest = max(seen.high.max().item() for seen in inputs["shared"])
    given = torch.tensor([0.0, 0.98 * highest])
    assert torch.allclose(quantizer(given), given, atol=0.02 * highest)


class Only(nn.Module):
    """A network's first output."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)[0]


class InPlace(nn.Module):
    """Statements that change what was seen before."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.one(x)
        self.relu(x)
        y = self.two(x)
        y.add_(10)
        return self.last(y)


def test_in_place_statements_are_followed():
    torch.manual_seed(0)
    network = InPlace().eval()
    inputs, relu_outputs = activation_moments(trace(network), (3, 4, 4))
    samples = torch.randn(100, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one = network.one(samples).relu()
        two = network.two(one) + 10
    assert torch.allclose(inputs["two"][0].mean[0, :, 0, 0], one.mean((0, 2, 3)), atol=0.02)
    assert torch.allclose(inputs["last"][0].mean[0, :, 0, 0], two.mean((0, 2, 3)), atol=0.02)
    assert relu_outputs.keys() == {"relu"}


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(), nn.LogSoftmax(1)),
        nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 1), nn.MaxPool1d(2), nn.Conv1d(4, 4, 1)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(4, 4, 1)),
    ],
)
def test_only_what_a_layer_sees_must_be_known(network):
    result = quantize_with_dfq(network.eval(), (3, 8, 8), Settings(8, 8, mixed=False, bias_correction="analytic"))
    images = torch.randn(64, 3, 8, 8)
    assert (outputs(result.model, images) - outputs(network, images)).abs().max() < 0.1


def test_a_clamp_clips_moments():
    class Clamping(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.two(torch.clamp(functional.hardtanh(self.one(x)), min=-0.5))

    (found,) = activation_moments(trace(Clamping()), (3, 4, 4))[0]["two"]
    assert (found.low.min().item(), found.high.max().item()) == (-0.5, 1)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_analytic_correction_of_grouped_and_flattened_layers(groups):
    """Channel by channel, against the float network on the inputs that it stands for."""
    first = normal_chain(nn.ReLU(), groups)
    flattened = nn.Sequential(*normal_chain(nn.ReLU())[:3], nn.Flatten(), nn.Linear(4 * 16, 5)).eval()
    for network, layer in ((first, "3"), (flattened, "4")):
        plan = {"0": 32, layer: 3}
        images = torch.randn(4096, 4, 4, 4, generator=torch.Generator().manual_seed(1))
        shifts = {}
        for correction in ("none", "analytic"):
            settings = Settings(plan, 32, mixed=False, per_channel=False, bias_correction=correction)
            result = quantize_with_dfq(network, (4, 4, 4), settings, NO_STEPS)
            difference = outputs(result.model, images) - outputs(network, images)
            shifts[correction] = difference.transpose(0, 1).flatten(1).mean(1).abs().max()
        assert shifts["analytic"] < 0.05 * shifts["none"]


class Tokens(nn.Module):
    """A Linear layer over tokens [N, places, channels]."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.mixed = nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Linear(6, 5)

    def forward(self, x):
        return self.mixed(functional.relu(self.norm(self.first(x))).flatten(2).transpose(1, 2)).mean(1)


def test_corrections_of_a_layer_over_tokens():
    torch.manual_seed(0)
    network, images = Tokens().eval(), torch.randn(64, 3, 8, 8)
    network.first.weight.data = torch.eye(6, 3)[..., None, None]
    network.first.bias.data *= 0
    network.norm.bias.data[:] = 2
    wanted = outputs(network, images).mean(0)
    shifts = {}
    for correction in ("none", "analytic", "empirical"):
        settings = Settings({"first": 32, "mixed": 3}, 32, mixed=False, bias_correction=correction)
        own = images if correction == "empirical" else None
        result = quantize_with_dfq(network, (3, 8, 8), settings, images=own)
        shifts[correction] = (outputs(result.model, images).mean(0) - wanted).abs().max()
    assert shifts["empirical"] < 1e-5
    assert shifts["analytic"] < 0.3 * shifts["none"]


def test_transposed_convolutions_are_not_corrected_analytically():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2)).eval()
    biases = []
    for correction in ("none", "analytic"):
        result = quantize_with_dfq(network, (3, 8, 8), Settings(3, 8, mixed=False, bias_correction=correction))
        biases.append(result.model.get_submodule("3").bias)
    assert torch.equal(*biases)


def test_images_correct_dfq_s_biases_with_ranges_from_statistics():
    torch.manual_seed(0)
    network, images = normal_chain(nn.ReLU()), torch.randn(16, 4, 12, 12)
    settings = Settings(3, 8, mixed=False, per_channel=False, bias_correction="empirical")
    result = quantize_with_dfq(network, (4, 12, 12), settings, images=images)
    wanted, found = (outputs(model, images).mean((0, 2, 3)) for model in (network, result.model))
    assert torch.allclose(found, wanted, atol=2e-3)
    assert result.sensitivity is None


def test_a_layer_that_the_quantized_network_does_not_call():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    quantized = zeroq.quantize(network, 8, 32)
    quantized.forward = lambda x: quantized[0](x)
    with pytest.raises(zeroq.ZeroQError, match="calls '2', and the quantized one does not"):
        correct_biases(quantized, network, torch.randn(2, 3, 4, 4))
