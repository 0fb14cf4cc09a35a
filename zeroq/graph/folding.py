"""BatchNorm folding."""

import torch
from torch import fx, nn

from zeroq.graph.operators import name_of
from zeroq.graph.patterns import attributes, calls_of, changeable_layers, gives_vectors
from zeroq.layers import WeightedLayer, beside_weight, channel_axis, weight_grid, weighted_layer
from zeroq.modules import RecordedBatchNorm, batch_norms


def fold_batch_norms(graph: fx.GraphModule) -> fx.GraphModule:
    """Move every BatchNorm that directly follows a Conv or Linear layer into that layer's weight and bias.

    The outputs stay the same, but for rounding, and a quantized weight keeps its integers. The layer then has the
    buffers ``output_mean`` and ``output_std`` [channels], BatchNorm's β and |γ|: the mean and standard deviation of its
    output over the training data, and ``folded_factor`` [channels], what its weight was multiplied by. A BatchNorm
    behind anything else, or behind a layer that is called more than once, stays where it is, and so does one behind a
    Linear layer that may see more than vectors [N, features]: the axis of their channels is another. Changes the graph
    in place and returns it.

    Raises ZeroQError for a BatchNorm without ``eps``.
    """
    layers, used = changeable_layers(graph), attributes(graph)
    for name in layers:
        # Of an earlier folding, whose result is now the layer's own weight.
        graph.get_submodule(name)._buffers.pop("folded_factor", None)
    for name, norm in batch_norms(graph).items():
        calls = calls_of(graph, name)
        if len(calls) != 1 or len(calls[0].all_input_nodes) != 1 or any(each.startswith(f"{name}.") for each in used):
            continue
        (node,) = calls
        (source,) = node.all_input_nodes
        if source.op != "call_module" or len(layers.get(name_of(source), [])) != 1 or len(source.users) != 1:
            continue
        layer = weighted_layer(graph, name_of(source))
        if isinstance(layer, nn.Linear) and not gives_vectors(graph, source):
            continue
        channels = layer.weight.shape[channel_axis(layer)]
        if len(norm.running_mean) != channels or not is_batch_norm(norm, layer.weight.dim() - 2):
            continue
        _fold(layer, norm)
        activation = _activation(norm)
        if isinstance(activation, nn.Identity):
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
            graph.delete_submodule(name)
        else:
            graph.set_submodule(name, activation)
    graph.graph.lint()
    graph.recompile()
    return graph


def _affine(norm: RecordedBatchNorm) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """γ, β, and what BatchNorm does with its input: factor and shift; in float64, each [channels]."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    gamma = torch.ones_like(mean) if weight is None else weight.detach().double()
    beta = torch.zeros_like(mean) if bias is None else bias.detach().double()
    factor = gamma / (variance + norm.eps).sqrt()
    return gamma, beta, factor, beta - mean * factor


def _activation(norm: nn.Module) -> nn.Module:
    """What a layer does behind its normalization, as timm's BatchNormAct2d."""
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()


def is_batch_norm(norm: RecordedBatchNorm, axes: int) -> bool:
    """Whether a module with recorded statistics does BatchNorm on [N, channels, …], and only that (and ``act``).

    ``axes`` is the number of axes behind the channels.
    """
    *_, factor, shift = _affine(norm)
    per_channel = (1, -1, *(1,) * axes)
    noise = torch.randn(64, len(factor), *(2,) * axes, generator=torch.Generator().manual_seed(0)).to(norm.running_mean)
    # Around what it saw in training, to both sides of an activation of its own.
    spread = 3 * (norm.running_var + norm.eps).sqrt()
    values = norm.running_mean.view(per_channel) + spread.view(per_channel) * noise
    expected = (values * factor.view(per_channel) + shift.view(per_channel)).to(values)
    with torch.no_grad():
        try:
            return torch.allclose(norm(values), _activation(norm)(expected), rtol=1e-3, atol=1e-4)
        except (RuntimeError, TypeError, ValueError):  # it wants something else than one such tensor
            return False


def _fold(layer: WeightedLayer, norm: RecordedBatchNorm) -> None:
    gamma, beta, factor, shift = _affine(norm)
    weight = layer.weight.detach()
    bias = shift if layer.bias is None else layer.bias.detach().double() * factor + shift
    grid_sum = sum(weight_grid(layer)) if hasattr(layer, "weight_scale") else 0
    layer.weight = nn.Parameter((weight.double() * beside_weight(layer, factor)).to(weight))
    layer.bias = nn.Parameter(bias.to(weight))
    if hasattr(layer, "weight_scale"):
        # The same integers at other scales; a negative factor mirrors its channel's grid.
        before, zero_point = layer.get_buffer("weight_scale"), layer.get_buffer("weight_zero_point")
        scale = before.double() * factor.abs()
        layer.weight_scale = torch.where(scale > 0, scale, 1).to(before)
        layer.weight_zero_point = torch.where(factor < 0, grid_sum - zero_point, zero_point)
    # A layer that two BatchNorms follow is folded twice.
    layer.register_buffer("folded_factor", factor * getattr(layer, "folded_factor", 1), persistent=False)
    layer.register_buffer("output_mean", beta.to(weight), persistent=False)
    layer.register_buffer("output_std", gamma.abs().to(weight), persistent=False)
