"""A quantized network → a graph whose weights are integers and whose quantizers are operators."""

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import fx, nn

import zeroq.export.operators  # noqa: F401 registers torch.ops.zeroq
from zeroq.borrowing import check_network
from zeroq.errors import ZeroQError
from zeroq.export.respelled import keep_in_float, respell
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.operators import called, moves, name_of, takes_item, tensor_nodes, whole_nodes
from zeroq.graph.patterns import layer_calls
from zeroq.graph.placement import clamped_end, insert_behind, only_leads_out
from zeroq.graph.tracing import trace
from zeroq.layers import (
    WeightedLayer,
    beside_weight,
    channel_axis,
    is_affine,
    weight_grid,
    weight_steps,
    weighted_layer,
    weighted_layers,
)
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import FLOAT_BITS
from zeroq.quantization.layers import QuantizedOutput, QuantizedWeight, plain_again

# The widths of ONNX's integer types, and the one that integer kernels take.
TYPE_WIDTHS = (2, 4, 8)
WIDEST = 8
# Biases are integers of 32 bits; half of their range is left for the sums that they are added to.
LARGEST_BIAS = 2.0**30
# Of a bias that alone makes a channel's output: finer than float32 is.
FINE_BIAS = 2.0**25


@dataclass(frozen=True)
class LoweredLayer:
    """How one call of a Conv or Linear layer stands in the file.

    ``bits`` are the plan's and ``stored_bits`` those of the type that holds the weight; ``reason`` says why it runs in
    float, and is empty where it has all that an integer kernel needs. ``kind`` is the layer's class in torch, and
    ``weights`` their number, 0 for further calls of the same layer.
    """

    name: str
    kind: str
    bits: int
    stored_bits: int
    weights: int
    reason: str

    @property
    def is_integer(self) -> bool:
        """Whether it has all that an integer kernel needs."""
        return not self.reason


class StoredQuantizer(nn.Module):
    """An ``ActivationQuantizer`` as an operator."""

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, quantizer: ActivationQuantizer):
        super().__init__()
        self.register_buffer("scale", quantizer.scale.detach().clone())
        self.register_buffer("zero_point", quantizer.zero_point.to(torch.uint8))
        self.highest = 2 ** int(quantizer.bits) - 1

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.ops.zeroq.quantize_dequantize(values, self.scale, self.zero_point, self.highest)


class StoredWeight(nn.Module):
    """Mixed in before a layer's own class: its weight, and a bias of integers, are dequantized when they are used.

    ``is_integer`` says whether it has all that an integer kernel needs.
    """

    is_integer: bool
    weight_integers: torch.Tensor
    weight_scale: torch.Tensor
    weight_zero_point: torch.Tensor
    bias_integers: torch.Tensor
    bias_scale: torch.Tensor
    bias_zero_point: torch.Tensor

    @property
    def weight(self) -> torch.Tensor:
        return torch.ops.zeroq.dequantize(
            self.weight_integers, self.weight_scale, self.weight_zero_point, channel_axis(self)
        )

    @property
    def bias(self) -> torch.Tensor | None:
        if "bias_integers" not in self._buffers:
            return self._parameters["bias"]
        return torch.ops.zeroq.dequantize(self.bias_integers, self.bias_scale, self.bias_zero_point, 0)


def lowered(graph: fx.GraphModule) -> tuple[fx.GraphModule, list[LoweredLayer]]:
    """The graph that a file is made of, and how each Conv and Linear layer stands in it, from an ``explicit`` graph.

    BatchNorm is folded, which changes no integer. Changes the graph in place.
    """
    graph = graph.float()  # in half precision folding would change integers
    fold_batch_norms(graph)
    respell(graph)
    merge_quantizers(graph)
    follow_moves(graph)
    keep_in_float(graph)
    layers = [
        _lower_layer(graph, name, nodes, number)
        for name, calls in layer_calls(graph).items()
        for number, nodes in enumerate(calls)
    ]
    for name, module in list(graph.named_modules()):
        if isinstance(module, ActivationQuantizer):
            graph.set_submodule(name, StoredQuantizer(module))
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph, layers


def explicit(quantized: nn.Module, input_shape: tuple[int, int, int] | None = None) -> fx.GraphModule:
    """The traced copy of a quantized network in which every quantizer is a node of its own.

    Raises ZeroQError where the network is not quantized, where a quantizer that it uses has no range, and where a
    weight's zero point lies outside of its grid.
    """
    check_network(quantized)
    if not any(isinstance(module, QuantizedWeight | QuantizedOutput) for module in quantized.modules()):
        raise ZeroQError("the network is not quantized; export what zeroq.quantize and zeroq.calibrate give")
    _check_zero_points(quantized)
    graph = trace(quantized, input_shape)
    plain: dict[str, tuple[nn.Module | None, nn.Module | None]] = {}
    for node in list(graph.graph.nodes):
        module = called(graph, node)
        if isinstance(module, QuantizedWeight | QuantizedOutput):
            plain[node.target] = plain_again(module)
        before, after = plain.get(node.target, (None, None)) if module is not None else (None, None)
        if before is not None:
            _add_once(graph, name := f"{node.target}_input_quantizer", before)
            given = node.args[0] if node.args else next(iter(node.kwargs.values()))
            with graph.graph.inserting_before(node):
                node.replace_input_with(given, graph.graph.call_module(name, (given,)))
        if after is not None:
            _add_once(graph, name := f"{node.target}_output_quantizer", after)
            insert_behind(graph, node, name)
    for node in graph.graph.nodes:
        if (quantizer := quantizer_of(graph, node)) is None:
            continue
        if quantizer.dynamic:
            raise ZeroQError("activation ranges are each batch's own (method naive), and a file needs fixed ones")
        if not quantizer.calibrated:
            raise ZeroQError(
                f"the quantizer {node.target!r} has no range yet; call zeroq.calibrate(quantized, images) first, with "
                f"images that reach every layer"
            )
    graph.graph.lint()
    graph.recompile()
    return graph


def _check_zero_points(quantized: nn.Module) -> None:
    """Raise ZeroQError where a weight's zero point is no integer of its grid, as ``weight_range="min_max"`` allows."""
    for name, layer in weighted_layers(quantized).items():
        if "weight_zero_point" not in dict(layer.named_buffers(recurse=False)):
            continue
        zero_point, (lowest, highest) = layer.get_buffer("weight_zero_point"), weight_grid(layer)
        if ((zero_point < lowest) | (zero_point > highest)).any():
            raise ZeroQError(
                f"layer {name!r} has zero points outside of its weight's {int(layer.get_buffer('weight_bits'))} bits, "
                f"which no file holds; quantize with weight_range='with_zero'"
            )


def quantizer_of(graph: fx.GraphModule, node: fx.Node) -> ActivationQuantizer | StoredQuantizer | None:
    """The quantizer that a node calls."""
    module = called(graph, node)
    return module if isinstance(module, ActivationQuantizer | StoredQuantizer) else None


def following_quantizer(graph: fx.GraphModule, node: fx.Node) -> ActivationQuantizer | StoredQuantizer | None:
    """The quantizer that alone uses what the kernel that a node begins gives; where BatchNorm is folded already."""
    users = list(clamped_end(graph, node).users)
    return quantizer_of(graph, users[0]) if len(users) == 1 else None


def merge_quantizers(graph: fx.GraphModule) -> None:
    """One quantizer where several with the same parameters quantize the same tensor, so that one kernel feeds all."""
    first: dict[tuple[Any, ...], fx.Node] = {}
    for node in list(graph.graph.nodes):
        if not isinstance(quantizer := quantizer_of(graph, node), ActivationQuantizer):
            continue
        (source,) = node.all_input_nodes
        key = (source, quantizer.scale.item(), quantizer.zero_point.item(), quantizer.bits.item())
        if key in first:
            node.replace_all_uses_with(first[key])
            graph.graph.erase_node(node)
        else:
            first[key] = node


def follow_moves(graph: fx.GraphModule) -> None:
    """Quantize again what only moved quantized values: it changes none, and a runtime moves integers instead."""
    tensors = tensor_nodes(graph) - whole_nodes(graph)
    grids = {node: node for node in graph.graph.nodes if quantizer_of(graph, node) is not None}
    for node in list(graph.graph.nodes):
        sources = [each for each in node.all_input_nodes if each in grids]
        if node not in tensors or len(sources) != 1 or not moves(graph, node):
            continue
        source = grids[sources[0]]
        if any(takes_item(user) for user in node.users):
            grids[node] = source  # several tensors; each follows when it is taken
        elif all(user.op == "output" or quantizer_of(graph, user) is not None for user in node.users):
            continue
        else:
            grids[insert_behind(graph, node, source.target)] = source


def _lower_layer(graph: fx.GraphModule, name: str, node: fx.Node, number: int) -> LoweredLayer:
    """Give one call of a layer a module of its own, with integers for weights."""
    layer = weighted_layer(graph, name)
    bits = int(getattr(layer, "weight_bits", FLOAT_BITS))
    weights = layer.weight.numel() if number == 0 else 0
    reason = _why_float(graph, node, bits)
    kind = next(each.__name__ for each in type(layer).__mro__ if each.__module__.startswith("torch.nn"))
    if bits == FLOAT_BITS:
        return LoweredLayer(name, kind, bits, bits, weights, reason)
    if hasattr(layer, "weight_shift"):
        raise ZeroQError(
            f"the weight of {name!r} lies between the integers of its grid, since its mean was corrected; export what "
            f"was quantized without bias_correction='weights' (method aciq)"
        )
    own = copy.copy(layer)
    own._parameters, own._buffers = dict(layer._parameters), dict(layer._buffers)
    cast(StoredWeight, own).is_integer = not reason
    # The same values as multiples of a finer scale: the bias is an integer of that scale too, and 2-bit weights' own
    # would round it by as much as a step of the output.
    finer = 2 ** (WIDEST - bits)
    weight_scale = layer.get_buffer("weight_scale")
    scale, zero_point = weight_scale / finer, layer.get_buffer("weight_zero_point") * finer
    bias = layer.bias
    if bias is not None and not reason:
        source = cast(ActivationQuantizer, quantizer_of(graph, node.all_input_nodes[0]))
        scale = _scale_that_holds(bias, source.scale, scale, _only_zeros(layer))
        bias_scale = (source.scale * scale).expand(bias.shape).contiguous()
        own.register_buffer("bias_scale", bias_scale)
        own.register_buffer("bias_zero_point", torch.zeros_like(bias, dtype=torch.int32))
        own.register_buffer("bias_integers", (bias.double() / bias_scale.double()).round().to(torch.int32))
        del own._parameters["bias"]
    stored = min(width for width in TYPE_WIDTHS if width >= bits)
    grown = beside_weight(layer, scale.double() * finer / weight_scale.double())
    steps = (weight_steps(layer) / grown).round() * finer
    integers = steps + beside_weight(layer, zero_point)
    signed = weight_grid(layer)[0] < 0
    own.register_buffer("weight_integers", integers.to(torch.int8 if signed else torch.uint8))
    own.register_buffer("weight_scale", scale.detach().clone())
    own.register_buffer("weight_zero_point", zero_point.to(torch.int8 if signed else torch.uint8))
    own.register_buffer("weight_bits", None)
    del own._parameters["weight"]
    base: type = type(layer)
    own.__class__ = _stored_class(base)
    node.target = f"{name}_{bits}bit_{number}"
    graph.add_submodule(node.target, own)
    return LoweredLayer(name, kind, bits, stored, weights, reason)


def _only_zeros(layer: WeightedLayer) -> torch.Tensor:
    """The output channels whose weights are all 0, bool [channels]; of one scale a tensor whether all are, bool []."""
    zeros = layer.weight == 0
    by_channel = layer.get_buffer("weight_scale").dim()
    return zeros.movedim(channel_axis(layer), 0).flatten(1).all(1) if by_channel else zeros.all()


def _scale_that_holds(
    bias: torch.Tensor, input_scale: torch.Tensor, scale: torch.Tensor, only_zeros: torch.Tensor
) -> torch.Tensor:
    """The weight's scale, other where the bias, in units of input scale × weight scale, has no integer of its own.

    It is larger where 32 bits would not hold it: such a channel's weights are so small beside its bias that they hardly
    reach its output. Where all weights are 0, any scale holds them, and it is the bias's.
    """
    magnitude = bias.detach().abs().double() / input_scale.double()
    if not scale.dim():
        magnitude = magnitude.max()
    needed, fine = (magnitude / LARGEST_BIAS).to(scale), (magnitude / FINE_BIAS).to(scale)
    return torch.where(only_zeros & (fine > 0), fine, torch.maximum(scale, needed))


def _why_float(graph: fx.GraphModule, node: fx.Node, bits: int) -> str:
    """Why a layer's call has no integer kernel; empty where it has."""
    layer = weighted_layer(graph, name_of(node))
    if bits == FLOAT_BITS:
        return "its weight is float"
    if quantizer_of(graph, node.all_input_nodes[0]) is None:
        return "its input is not quantized"
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return "runtimes have no integer kernel for transposed convolutions"
    if not is_affine(layer):
        return "its forward does more than its weight and bias say"
    end = clamped_end(graph, node)
    if following_quantizer(graph, node) is not None or (isinstance(layer, nn.Linear) and end is node):
        return ""
    return "it gives the network's output" if only_leads_out(graph, end) else "its output is not quantized"


def _add_once(graph: fx.GraphModule, name: str, module: nn.Module) -> None:
    if name not in dict(graph.named_modules()):
        graph.add_submodule(name, module)


@cache
def _stored_class(base: type) -> Any:
    return type(f"Stored{base.__name__}", (StoredWeight, base), {"__doc__": StoredWeight.__doc__})
