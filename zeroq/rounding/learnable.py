"""Integers of weights and steps of activations as parameters that gradients reach."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrize

from zeroq.layers import WeightedLayer, beside_weight, weighted_layer
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import AffineParameters
from zeroq.quantization.convert import activation_quantizers

# How far from its integer a weight starts at most, in steps of its grid, towards the float weight.
NEAR = 0.45
# Of an activation's values, how many pass unquantized while steps are learned.
DROPPED = 0.5


class RoundedWeight(nn.Module):
    """A weight on its grid, learned in steps of it; starts at the layer's own, as a parametrization of ``weight``."""

    def __init__(self, layer: WeightedLayer, float_weight: torch.Tensor, grid: AffineParameters):
        super().__init__()
        self.scale = beside_weight(layer, grid.scale).float()
        zero_point = beside_weight(layer, grid.zero_point)
        self.lowest, self.highest = grid.lowest - zero_point, grid.highest - zero_point
        self._float_weight = float_weight.detach().float()

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """Where to start from: a weight's integers, moved a little towards what they were rounded from."""
        steps, wanted = weight / self.scale, self._float_weight / self.scale
        return (steps + (wanted - steps).clamp(-NEAR, NEAR)).clamp(self.lowest - NEAR, self.highest + NEAR)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        return straight_through(steps, self.lowest, self.highest) * self.scale


class LearnedStep(nn.Module):
    """An activation quantizer whose step is learned, as ``change`` of its logarithm.

    In training mode a random share of the values passes as it is.
    """

    def __init__(self, quantizer: ActivationQuantizer, generator: torch.Generator):
        super().__init__()
        self.change = nn.Parameter(torch.zeros_like(quantizer.scale))
        self._quantizer = [quantizer]  # in a list, so that it is no submodule
        self._start, self._zero_point = quantizer.scale.clone(), quantizer.zero_point.clone()
        self._highest = 2 ** int(quantizer.bits) - 1
        self._generator = generator

    @property
    def scale(self) -> torch.Tensor:
        """The step as it is now."""
        return self._start * self.change.exp()

    def keep(self) -> None:
        """Give the quantizer this step."""
        self._quantizer[0].scale.copy_(self.scale.detach())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not values.numel():  # of a part of the network that is called with no image at all
            return values
        lowest = -self._zero_point
        quantized = straight_through(values / self.scale, lowest, lowest + self._highest) * self.scale
        if not self.training:
            return quantized
        drawn = torch.rand(values.shape, generator=self._generator, device=values.device)
        return torch.where(drawn < DROPPED, values, quantized)


def straight_through(values: torch.Tensor, lowest: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """Integers nearest to values, with the gradient as if they were not rounded (Bengio et al. 2013).

    Those beyond the ends are cut there, and have none. At the ends themselves it is whole; clamp's is half of it.
    """
    rounded = values + (values.round() - values).detach()
    inside = (rounded >= lowest) & (rounded <= highest)
    return torch.where(inside, rounded, rounded.detach().clamp(lowest, highest))


@contextmanager
def learnable(
    network: nn.Module,
    float_weights: Mapping[str, torch.Tensor],
    grids: Mapping[str, AffineParameters],
    quantizers: Iterable[str],
    generator: torch.Generator,
) -> Iterator[tuple[list[nn.Parameter], list[LearnedStep]]]:
    """Make the weights of the layers that ``grids`` names and the steps of quantizers learnable inside.

    Gives the weights, in steps of their grids, and each quantizer's stand-in. Outside, layers have the weight that they
    were left with, and quantizers are back as they were.
    """
    layers = {name: weighted_layer(network, name) for name in grids}
    found = activation_quantizers(network)
    originals = {name: found[name] for name in quantizers}
    stand_ins = {name: LearnedStep(quantizer, generator).eval() for name, quantizer in originals.items()}
    try:
        for name, layer in layers.items():
            rounded = RoundedWeight(layer, float_weights[name], grids[name])
            parametrize.register_parametrization(layer, "weight", rounded)
            layer.get_parameter("parametrizations.weight.original").requires_grad_()
        for name, stand_in in stand_ins.items():
            network.set_submodule(name, stand_in)
        weights = [layer.get_parameter("parametrizations.weight.original") for layer in layers.values()]
        yield weights, list(stand_ins.values())
    finally:
        for name, quantizer in originals.items():
            network.set_submodule(name, quantizer)
        for layer in layers.values():
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight")
                layer.weight.requires_grad_(False)
