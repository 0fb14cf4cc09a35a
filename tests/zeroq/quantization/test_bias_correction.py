"""Bias correction from images: means that quantization no longer shifts."""

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import HandWritten
from zeroq.quantization.bias_correction import correct_biases, measured_outputs
from zeroq.settings import Settings


def test_empirical_correction_of_shared_layers_and_those_without_bias(hand_written, images):
    wanted, distances = measured_outputs(hand_written, images), {}
    for correction in ("none", "empirical"):
        settings = Settings(3, 8, mixed=False, bias_correction=correction)
        result = zeroq.quantize_with_images(hand_written, images, settings)
        found = measured_outputs(result.model, images)
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


def test_every_mean_of_a_chain_of_layers_is_the_float_network_s(images):
    """Each layer is corrected for inputs that are corrected already."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(720, 4)
    network = nn.Sequential(*layers).eval()
    quantized = zeroq.quantize(network, 2, 4)
    zeroq.calibrate(quantized, images)
    correct_biases(quantized, network, images)
    wanted, found = measured_outputs(network, images), measured_outputs(quantized, images)
    assert list(found) == list(wanted) == ["0", "2", "5"]
    for name, (expected,) in wanted.items():
        torch.testing.assert_close(found[name][0], expected, rtol=1e-4, atol=1e-5)


def test_a_layer_that_the_quantized_network_does_not_call():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    quantized = zeroq.quantize(network, 8, 32)
    quantized.forward = lambda x: quantized[0](x)
    with pytest.raises(zeroq.ZeroQError, match="calls '2', and the quantized one does not"):
        correct_biases(quantized, network, torch.randn(2, 3, 4, 4))
