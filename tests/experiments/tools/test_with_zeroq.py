"""The project's own methods beside other tools."""

import pytest

from experiments.tools.with_zeroq import generate, quantize
from zeroq.distillation.natural import distill_natural
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork


@pytest.mark.parametrize("method", ["zeroq", "zeroq+"])
def test_every_layer_has_the_width(method, no_norm, images):
    quantized = quantize(no_norm, images, 4, 8, method=method)
    channels = [channel for layer in (quantized[0], quantized[4]) for channel in layer.weight]
    assert max(channel.unique().numel() for channel in channels) in range(5, 17)  # more than 2 bits, at most 4
    assert quantized(images).shape == no_norm(images).shape


def test_own_images_are_those_of_the_methods_recipe(hand_written):
    """Between black and white, which are the ends of the network's own input."""
    network = PretrainedNetwork(hand_written, InputSpecification((3, 16, 16), (0.5,) * 3, (0.25,) * 3))
    made = generate(network, 2, seed=0, method="zeroq+")
    assert made.shape == (2, 3, 16, 16)
    assert made.abs().max() <= 2
    unlike = distill_natural(hand_written, (3, 16, 16), 2, seed=0)
    assert made.equal(distill_natural(hand_written, (3, 16, 16), 2, seed=0, limits=([-2.0] * 3, [2.0] * 3)))
    assert not made.equal(unlike)
