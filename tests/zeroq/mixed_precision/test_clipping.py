"""Activation ranges by what the network says, against the divergence itself."""

import copy

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.mixed_precision.clipping import clip_ranges
from zeroq.mixed_precision.divergence import divergence
from zeroq.mixed_precision.outputs import class_scores
from zeroq.quantization.affine import FLOAT_BITS
from zeroq.quantization.convert import activation_quantizers, convert, quantizer_places
from zeroq.rounding.activation_ranges import narrow_ranges

SHAPE = (3, 12, 12)


class Branches(nn.Module):
    """A sum, a pool and a module that is used twice; an activation that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.branch, self.relu = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
        self.pool, self.scores = nn.AvgPool2d(2), nn.Linear(8, 5)

    def forward(self, images):
        features = self.relu(self.norm(self.stem(images)))
        features = self.pool(features + self.relu(self.branch(features)))
        return 3 * self.scores(features.mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return estimate_statistics(Branches(), SHAPE)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    images = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(1))
    images[0, 0, 4, 4] = 15  # one pixel
    return images


def calibrated(network: nn.Module, images: torch.Tensor, bits: int | dict[str, int], placement: str) -> nn.Module:
    quantized = convert(network, FLOAT_BITS, bits, placement)
    zeroq.calibrate(quantized, images)
    return quantized


def distance(network: nn.Module, quantized: nn.Module, images: torch.Tensor) -> float:
    with torch.no_grad():
        return divergence(class_scores(network, images), class_scores(quantized, images), "forward")


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("placement", ["integer", "after_relu"])
def test_the_scores_change_less(network, images, bits, placement):
    quantized = calibrated(network, images, bits, placement)
    clipped = copy.deepcopy(quantized)
    clip_ranges(clipped, network, images)
    assert distance(network, clipped, images) < distance(network, quantized, images)


def test_each_alone_is_close_to_the_best_share(network, images):
    """Of one quantizer, the others float: the divergence itself, for every share."""
    quantized = calibrated(network, images, 3, "integer")
    names = list(activation_quantizers(quantized))
    clipped = copy.deepcopy(quantized)
    clip_ranges(clipped, network, images)
    better = 0
    for name in names:
        found = []
        for source in (quantized, clipped):
            alone = copy.deepcopy(quantized)
            for other, quantizer in activation_quantizers(alone).items():
                if other == name:
                    own = activation_quantizers(source)[name]
                    quantizer.scale.copy_(own.scale)
                    quantizer.zero_point.copy_(own.zero_point)
                else:
                    quantizer.start_recording(None)  # passes values as they are
            found.append(distance(network, alone, images))
        assert found[1] < 1.3 * found[0]
        better += found[1] < 0.9 * found[0]
    assert better >= len(names) / 3


def test_each_is_chosen_as_if_it_were_alone(network, images):
    """While shares are compared, all others pass their values as they are."""
    together = calibrated(network, images, 3, "integer")
    clip_ranges(together, network, images)
    found = activation_quantizers(together)
    places = quantizer_places(together)
    assert len(places) > 3
    for place, name in places.items():
        alone = calibrated(network, images, dict.fromkeys(places, FLOAT_BITS) | {place: 3}, "integer")
        clip_ranges(alone, network, images)
        (quantizer,) = activation_quantizers(alone).values()
        torch.testing.assert_close(found[name].scale, quantizer.scale, rtol=1e-4, atol=0)


def test_ranges_of_layers_inputs_go_by_the_layer(network, images):
    clipped, narrowed = (calibrated(network, images, 4, "layer_inputs") for _ in range(2))
    clip_ranges(clipped, network, images)
    narrow_ranges(narrowed, network, images)
    for one, other in zip(clipped.state_dict().values(), narrowed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_zero_stays_exact_and_nothing_else_changes(network, images):
    quantized = calibrated(network.requires_grad_(), images, 4, "integer")
    before = copy.deepcopy(quantized)
    with torch.inference_mode():
        clip_ranges(quantized, network, images.clone())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in quantized.parameters())
    for name, quantizer in activation_quantizers(quantized).items():
        assert quantizer(torch.zeros(1, 1, 1, 1)).item() == 0
        assert quantizer.scale <= activation_quantizers(before)[name].scale * (1 + 1e-6)
    again = calibrated(network, images, 4, "integer")
    clip_ranges(again, network, images)
    for one, other in zip(quantized.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
