"""How far apart two sets of images are, as each BatchNorm layer sees them."""

from collections.abc import Mapping

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.distillation.batch_norm import batch_norm_inputs, layers_to_match
from zeroq.images import check_images
from zeroq.modules import evaluating, forward

# Images that pass through the network together.
AT_ONCE = 32


@borrows
def layer_distances(model: nn.Module, images: torch.Tensor, others: torch.Tensor) -> dict[str, float]:
    """Name of each BatchNorm layer → how far apart its inputs are under two sets of images, 0 where they are alike.

    A channel's values under each set, over all images and places, are taken as a normal distribution with their mean μ
    and standard deviation σ. Two of them are √((μ − μ′)² + (σ − σ′)²) apart (Fréchet's distance); the layer's distance
    is the root of the channels' mean square, in units of the deviation that the layer recorded for the channel.

    ``images`` and ``others`` are float [N, C, H, W], normalised, each of any N. Layers that no image reaches are left
    out. Raises ZeroQError for images that the network does not accept, and for a network without BatchNorm.
    """
    layers = layers_to_match(model)
    one, other = (channel_statistics(model, each) for each in (images, others))
    found = {}
    for name, layer in layers.items():
        if name in one and name in other:
            squares = (one[name] - other[name]).square().sum(0)
            found[name] = (squares / (layer.running_var + layer.eps).double()).mean().sqrt().item()
    return found


def channel_statistics(model: nn.Module, images: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """Name of a BatchNorm layer → mean and deviation of its inputs' channels over all images: float64 [2, channels]."""
    check_images(images)
    names = {id(layer): name for name, layer in layers_to_match(model).items()}
    sums: dict[str, torch.Tensor] = {}  # of 1, x and x², [3, channels]
    with evaluating(model), torch.no_grad(), batch_norm_inputs(model) as recorded:
        for part in images.split(AT_ONCE):
            forward(model, part)
            for layer, features in recorded:
                values = features.double().transpose(0, 1).flatten(1)
                powers = torch.stack([(values**power).sum(1) for power in range(3)])
                sums[names[id(layer)]] = sums.get(names[id(layer)], 0) + powers
            recorded.clear()
    statistics = {}
    for name, (count, first, second) in sums.items():
        mean = first / count
        statistics[name] = torch.stack([mean, (second / count - mean.square()).clamp_min(0).sqrt()])
    return statistics
