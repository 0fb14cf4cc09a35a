"""DFQ's bias correction and ranges from BatchNorm: means that quantization no longer shifts."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.networks import normal_chain, outputs
from tests.zeroq.baselines.networks import Several
from zeroq.baselines.dfq import Steps
from zeroq.baselines.propagation import activation_moments
from zeroq.graph.tracing import trace
from zeroq.settings import Settings
from zeroq.zero_shot import quantize_with_dfq

NO_STEPS = Steps(replace_relu6=False, equalize=False, absorb=False)


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
