"""Analytic bias correction: from BatchNorm's statistics (Nagel et al. 2019, section 4.2)."""

import torch
from torch import fx, nn

from zeroq.baselines.moments import Moments
from zeroq.layers import TRANSPOSED, channel_means, constant_response, shift_bias


def correct_biases_analytically(
    quantized: nn.Module, graph: fx.GraphModule, layer_inputs: dict[str, list[Moments]]
) -> None:
    """Take from each layer's bias what the rounding of its weights adds to its mean output (Nagel et al., section 4.2).

    The error of the weights times the mean of the input, which ``activation_moments`` gives. Padding is taken for
    more of the same, and transposed convolutions are left alone. Changes ``quantized`` in place.
    """
    for name, calls in layer_inputs.items():
        layer, original = quantized.get_submodule(name), graph.get_submodule(name)
        if isinstance(layer, TRANSPOSED):
            continue
        mean = torch.stack([channel_means(layer, seen.mean) for seen in calls]).mean(0)
        shift_bias(layer, -constant_response(layer, layer.weight.detach() - original.weight.detach(), mean))
