"""Analytic bias correction: from BatchNorm's statistics (Nagel et al. 2019, section 4.2)."""

import torch
from torch import fx, nn

from zeroq.baselines.moments import Moments
from zeroq.layers import (
    TRANSPOSED,
    WeightedLayer,
    channel_means,
    constant_response,
    is_affine,
    shift_bias,
    weighted_layer,
)


def correct_biases_analytically(
    quantized: nn.Module, graph: fx.GraphModule, layer_inputs: dict[str, list[Moments]]
) -> None:
    """Take from each layer's bias what the rounding of its weights adds to its mean output (Nagel et al., section 4.2).

    The error of the weights times the mean of the input, which ``activation_moments`` gives. Padding is taken for
    more of the same, and layers that are not ``correctable`` are left alone. Changes ``quantized`` in place.
    """
    for name, calls in layer_inputs.items():
        layer, original = weighted_layer(quantized, name), weighted_layer(graph, name)
        if not correctable(original, calls):
            continue
        mean = torch.stack([channel_means(layer, seen.mean) for seen in calls]).mean(0)
        shift_bias(layer, -constant_response(layer, layer.weight.detach() - original.weight.detach(), mean))


def correctable(layer: WeightedLayer, calls: list[Moments]) -> bool:
    """Whether a float layer's weight says what it makes of its mean input, and statistics say that in every call."""
    return not isinstance(layer, TRANSPOSED) and is_affine(layer) and not any(seen.measured for seen in calls)
