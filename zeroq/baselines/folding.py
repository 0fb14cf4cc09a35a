"""BatchNorm folding, and ReLU in place of ReLU6."""

import torch
from torch import fx, nn
from torch.nn import functional

from zeroq.baselines.graph import changeable_layers
from zeroq.images.batch_norm import batch_norms
from zeroq.quantization.layers import channel_axis

CLAMPS = (torch.clamp, torch.clip, functional.hardtanh)
CLAMPS_IN_PLACE = ("clamp_", "clip_")
CLAMP_METHODS = ("clamp", "clip", *CLAMPS_IN_PLACE)


def fold_batch_norms(graph: fx.GraphModule) -> fx.GraphModule:
    """Move every BatchNorm that directly follows a Conv or Linear layer into that layer's weight and bias.

    The outputs stay the same, but for rounding. The layer then has the buffers ``output_mean`` and ``output_std``
    [channels], BatchNorm's β and |γ|: the mean and standard deviation of its output over the training data. A BatchNorm
    behind anything else, or behind a layer that is called more than once, stays where it is; one behind a Linear layer
    is taken to see vectors [N, channels]. Changes the graph in place and returns it.

    Raises ZeroQError for a BatchNorm without ``eps``.
    """
    layers = changeable_layers(graph)
    for name, norm in batch_norms(graph).items():
        calls = [node for node in graph.graph.nodes if node.op == "call_module" and node.target == name]
        if len(calls) != 1 or len(calls[0].all_input_nodes) != 1:
            continue
        (node,) = calls
        (source,) = node.all_input_nodes
        if source.op != "call_module" or len(layers.get(source.target, [])) != 1 or len(source.users) != 1:
            continue
        layer = graph.get_submodule(source.target)
        if not _is_batch_norm(norm, layer):
            continue
        _fold(layer, norm)
        activation = getattr(norm, "act", None)  # timm's BatchNormAct2d
        if isinstance(activation, nn.Module) and not isinstance(activation, nn.Identity):
            graph.set_submodule(name, activation)
        else:
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
            graph.delete_submodule(name)
    return _finished(graph)


def replace_relu6(graph: fx.GraphModule) -> fx.GraphModule:
    """ReLU for every ReLU6 and clamp to 0…6: equal where nothing exceeds 6, and unlike those it scales.

    Changes the graph in place and returns it.
    """
    for node in list(graph.graph.nodes):
        if node.op == "call_module":
            module = graph.get_submodule(node.target)
            if isinstance(module, nn.Hardtanh) and (module.min_val, module.max_val) == (0, 6):  # ReLU6 is one
                graph.set_submodule(node.target, nn.ReLU(module.inplace))
        elif node.target is functional.relu6 or _clamps_to_six(node):
            given = node.args[:1] or (node.kwargs["input"],)
            with graph.graph.inserting_before(node):
                relu = graph.graph.call_function(functional.relu, given, {"inplace": _is_in_place(node)})
            node.replace_all_uses_with(relu)
            graph.graph.erase_node(node)
    return _finished(graph)


def _clamps_to_six(node: fx.Node) -> bool:
    if node.target not in (CLAMPS if node.op == "call_function" else CLAMP_METHODS):
        return False
    named = [node.kwargs[key] for key in ("min", "min_val", "max", "max_val") if key in node.kwargs]
    return [*node.args[1:3], *named] == [0, 6]


def _is_in_place(node: fx.Node) -> bool:
    given = (*node.args[1:], node.kwargs.get("inplace"), node.target in CLAMPS_IN_PLACE)
    return any(argument is True for argument in given)


def _affine(norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """γ, β, and what BatchNorm does with its input: factor and shift; in float64, each [channels]."""
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    gamma = torch.ones_like(mean) if norm.weight is None else norm.weight.detach().double()
    beta = torch.zeros_like(mean) if norm.bias is None else norm.bias.detach().double()
    factor = gamma / (variance + norm.eps).sqrt()
    return gamma, beta, factor, beta - mean * factor


def _is_batch_norm(norm: nn.Module, layer: nn.Module) -> bool:
    """Whether a module with recorded statistics does BatchNorm on a layer's output, and only that (and ``act``)."""
    *_, factor, shift = _affine(norm)
    axes = layer.weight.dim() - 2
    if len(factor) != layer.weight.shape[channel_axis(layer)]:
        return False
    values = torch.randn(4, len(factor), *(2,) * axes, generator=torch.Generator().manual_seed(0)).to(norm.running_mean)
    per_channel = (1, -1, *(1,) * axes)
    expected = (values * factor.view(per_channel) + shift.view(per_channel)).to(values)
    with torch.no_grad():
        try:
            found = norm(values)
        except (RuntimeError, TypeError, ValueError):  # it wants something else than one such tensor
            return False
        return torch.allclose(found, getattr(norm, "act", nn.Identity())(expected), rtol=1e-3, atol=1e-4)


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    gamma, beta, factor, shift = _affine(norm)
    weight = layer.weight.detach()
    axis = channel_axis(layer)
    shape = [-1 if dimension == axis else 1 for dimension in range(weight.dim())]
    bias = shift if layer.bias is None else layer.bias.detach().double() * factor + shift
    layer.weight = nn.Parameter((weight.double() * factor.view(shape)).to(weight))
    layer.bias = nn.Parameter(bias.to(weight))
    layer.register_buffer("output_mean", beta.to(weight), persistent=False)
    layer.register_buffer("output_std", gamma.abs().to(weight), persistent=False)


def _finished(graph: fx.GraphModule) -> fx.GraphModule:
    graph.graph.lint()
    graph.recompile()
    return graph
