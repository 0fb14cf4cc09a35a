"""Cross-layer equalization and high-bias absorption (Nagel et al. 2019, sections 4.1 and 4.2)."""

import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.baselines.graph import HOMOGENEOUS_MODULES, LayerPair, layer_pairs
from zeroq.quantization.layers import TRANSPOSED, constant_response, shift_bias, weight_by_input

# Of the logarithm of a scale: ranges of a pair then differ by less than a thousandth.
SETTLED = 1e-4
LARGEST_SWEEPS = 1000
# What keeps its input's zero point of reference: f(max(x, 0) - c) = f(max(x, 0)) - c for a constant c of each channel.
SHIFTABLE = (
    *(nn.Identity, nn.Dropout, nn.Dropout2d, nn.Flatten, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(torch.flatten, functional.dropout, functional.max_pool2d, functional.adaptive_avg_pool2d),
    *("contiguous", "flatten"),
)
RELUS = (nn.ReLU, functional.relu, torch.relu, "relu", "relu_")
# Standard deviations between a channel's mean and the values that absorption takes for the smallest.
DEVIATIONS = 3


def equalize(graph: fx.GraphModule) -> fx.GraphModule:
    """Scale channels between the layers of every pair until both have the same weight range in each (Eq. 11).

    Iterated over all pairs until the scales settle, so that chains (the depthwise triples of MobileNetV2) are equal
    as a whole. A channel without any weight on one side is left alone. The outputs stay the same. Changes the graph
    in place and returns it.
    """
    pairs = equalizable_pairs(graph)
    for _ in range(LARGEST_SWEEPS):
        largest = 0.0
        for pair in pairs:
            first, second = graph.get_submodule(pair.first), graph.get_submodule(pair.second)
            scale = pair_scale(first, second)
            _divide_outputs(first, scale)
            _multiply_inputs(second, scale)
            largest = max(largest, scale.log().abs().max().item())
        if largest < SETTLED:
            break
    return graph


def pair_scale(first: nn.Module, second: nn.Module) -> torch.Tensor:
    """By what to divide each output channel of the first layer and to multiply each input of the second: [channels]."""
    one = output_ranges(first)
    other = input_ranges(second, len(one))
    return torch.where((one > 0) & (other > 0), (one / other).sqrt(), 1.0)


def output_ranges(layer: nn.Module) -> torch.Tensor:
    """Largest |weight| of each output channel: [channels]."""
    return layer.weight.detach().abs().flatten(1).amax(1)


def input_ranges(layer: nn.Module, channels: int) -> torch.Tensor:
    """Largest |weight| of each of ``channels`` input channels, of which a Linear layer may have several values each."""
    weight = weight_by_input(layer, layer.weight.detach()).abs()
    return weight.amax((1, 3)).flatten().view(channels, -1).amax(1)


def absorb_high_biases(graph: fx.GraphModule) -> fx.GraphModule:
    """Move what a channel always has in excess of 0, c = max(0, β - 3γ), into the next layer's bias (section 4.2).

    Exact where no value is below c: the ReLU between the two then passes everything. It is not done across zero
    padding, where the border sees 0 instead of c. Layers without recorded statistics (``fold_batch_norms``) are left
    alone. Changes the graph in place and returns it.
    """
    for pair in equalizable_pairs(graph):
        first, second = graph.get_submodule(pair.first), graph.get_submodule(pair.second)
        if not (hasattr(first, "output_mean") and _shifts(graph, pair, second)):
            continue
        excess = (first.output_mean - DEVIATIONS * first.output_std).clamp_min(0)
        shift_bias(first, -excess)
        first.output_mean -= excess
        shift_bias(second, constant_response(second, second.weight.detach(), excess))
    return graph


def equalizable_pairs(graph: fx.GraphModule) -> list[LayerPair]:
    """The pairs whose second layer's inputs are the first's channels in order; not those of transposed layers."""
    return [pair for pair in layer_pairs(graph) if _admits(*map(graph.get_submodule, (pair.first, pair.second)))]


def _admits(first: nn.Module, second: nn.Module) -> bool:
    if isinstance(first, TRANSPOSED) or isinstance(second, TRANSPOSED):
        return False
    return second.weight.shape[1] * getattr(second, "groups", 1) % len(first.weight) == 0


def _shifts(graph: fx.GraphModule, pair: LayerPair, second: nn.Module) -> bool:
    kinds = [_kind(graph, node) for node in pair.between]
    relus = [kind for kind in kinds if kind in RELUS]
    padded = getattr(second, "padding", 0)
    unpadded = padded == "valid" or (not isinstance(padded, str) and not any(torch.tensor(padded).flatten().tolist()))
    # A forward of its own may pad too, as timm's Conv2dSame does.
    own_forward = type(second).forward not in (nn.Conv2d.forward, nn.Linear.forward)
    others = [kind for kind in kinds if kind not in RELUS]
    return bool(relus) and all(kind in SHIFTABLE for kind in others) and unpadded and not own_forward


def _kind(graph: fx.GraphModule, node: fx.Node):
    """A module's class, a function or a method's name."""
    if node.op != "call_module":
        return node.target
    module = graph.get_submodule(node.target)
    return next(kind for kind in HOMOGENEOUS_MODULES if isinstance(module, kind))


def _divide_outputs(layer: nn.Module, scale: torch.Tensor) -> None:
    layer.weight.data /= scale.view(-1, *(1 for _ in layer.weight.shape[1:]))
    for name in ("bias", "output_mean", "output_std"):
        if getattr(layer, name, None) is not None:
            getattr(layer, name).data /= scale


def _multiply_inputs(layer: nn.Module, scale: torch.Tensor) -> None:
    weight = weight_by_input(layer, layer.weight.data)
    groups, _, inputs, _ = weight.shape
    spread = scale.repeat_interleave(groups * inputs // len(scale)).view(groups, 1, inputs, 1)
    layer.weight.data = (weight * spread).reshape(layer.weight.shape)
