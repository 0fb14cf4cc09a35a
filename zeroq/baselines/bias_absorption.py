"""High-bias absorption (Nagel et al. 2019, section 4.1)."""

import torch
from torch import fx

from zeroq.graph.operators import operator_of, rectifies
from zeroq.graph.patterns import LayerPair, layer_pairs
from zeroq.layers import PLAIN, constant_response, shift_bias, weighted_layer

# Standard deviations between a channel's mean and the values that absorption takes for the smallest.
SMALLEST = 3


def absorb_high_biases(graph: fx.GraphModule) -> fx.GraphModule:
    """Move what a channel always has in excess of 0, c = max(0, β - 3γ), into the next layer's bias.

    Exact where no value is below c: the ReLU between the two then passes everything. Unlike in the paper, it is not
    done across zero padding, where the border sees 0 instead of c (``unabsorbed_channels``). Layers without recorded
    statistics (``fold_batch_norms``) are left alone. Changes the graph in place and returns it.
    """
    for pair, excess in _excesses(graph, layer_pairs(graph)):
        first, second = weighted_layer(graph, pair.first), weighted_layer(graph, pair.second)
        if not _shifts(graph, pair):
            continue
        shift_bias(first, -excess)
        first.get_buffer("output_mean").sub_(excess)
        shift_bias(second, constant_response(second, second.weight.detach(), excess))
    return graph


def unabsorbed_channels(graph: fx.GraphModule, pairs: list[LayerPair]) -> int:
    """How many channels of pairs joined by a ReLU have a bias that the next layer cannot absorb exactly."""
    return sum(int((excess > 0).sum()) for pair, excess in _excesses(graph, pairs) if not _shifts(graph, pair))


def _excesses(graph: fx.GraphModule, pairs: list[LayerPair]) -> list[tuple[LayerPair, torch.Tensor]]:
    """c = max(0, β - 3γ) [channels] of every pair that a ReLU joins and whose first layer has statistics."""
    found = []
    for pair in pairs:
        first = graph.get_submodule(pair.first)
        if hasattr(first, "output_mean") and any(rectifies(graph, node) for node in pair.between):
            mean, std = first.get_buffer("output_mean"), first.get_buffer("output_std")
            found.append((pair, (mean - SMALLEST * std).clamp_min(0)))
    return found


def _shifts(graph: fx.GraphModule, pair: LayerPair) -> bool:
    """Whether a constant that is taken from the first layer's channels reaches the second one everywhere."""
    second = graph.get_submodule(pair.second)
    padded = getattr(second, "padding", 0)
    unpadded = padded == "valid" or (not isinstance(padded, str) and not any(torch.tensor(padded).flatten().tolist()))
    # A forward of its own may pad too, as timm's Conv2dSame does.
    own_forward = type(second).forward not in {layer.forward for layer in PLAIN}
    # f(max(x, 0) - c) = f(max(x, 0)) - c.
    between = all(operator_of(graph, node).shifts or rectifies(graph, node) for node in pair.between)
    return between and unpadded and not own_forward
