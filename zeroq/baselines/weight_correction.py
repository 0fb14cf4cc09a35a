"""Mean and norm of rounded weights, corrected channel by channel (Banner et al. 2019, section 5)."""

import torch
from torch import nn

from zeroq.layers import beside_weight, channel_axis, weighted_layers
from zeroq.quantization.affine import FLOAT_BITS


def correct_weights(quantized: nn.Module, model: nn.Module) -> None:
    """Move and scale each output channel of the rounded weights: ŵ ← ξ (ŵ + μ).

    μ = E w − E ŵ and ξ = ‖w − E w‖ / ‖ŵ − E ŵ‖: around its mean, which is ξ E w, a channel has the norm of the float
    one. A channel without spread keeps its scale. Changes ``quantized`` in place; ``model`` is the float network that
    it was made of. A corrected weight is scale · (q − zero point) + ``weight_shift``, a buffer [outputs], so that it
    lies between the integers of its grid.
    """
    originals = weighted_layers(model)
    for name, layer in weighted_layers(quantized).items():
        if int(layer.get_buffer("weight_bits")) == FLOAT_BITS:
            continue
        wanted, found = (
            each.weight.detach().double().movedim(channel_axis(layer), 0).flatten(1)
            for each in (originals[name], layer)
        )
        spread, spread_found = ((each - each.mean(1, keepdim=True)).norm(dim=1) for each in (wanted, found))
        factor = torch.where((spread > 0) & (spread_found > 0), spread / spread_found, 1.0)
        shift = factor * (wanted.mean(1) - found.mean(1))
        weight = layer.weight.detach().double()
        corrected = weight * beside_weight(layer, factor) + beside_weight(layer, shift)
        layer.weight.data.copy_(corrected)
        scale, zero_point = layer.get_buffer("weight_scale"), layer.get_buffer("weight_zero_point")
        layer.register_buffer("weight_scale", (scale.double() * factor).to(scale))
        layer.register_buffer("weight_zero_point", zero_point.expand(len(factor)).clone())
        layer.register_buffer("weight_shift", shift.to(layer.weight))
