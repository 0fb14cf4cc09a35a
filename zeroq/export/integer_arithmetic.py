"""A quantized network → one that computes as an integer runtime does, and rounds where and as it rounds.

In float, a sum that ends near the middle between two integers falls to one side or to the other by the order in which
it was added up, and all that is computed from it follows. Sums of integers have no order.
"""

import copy
from typing import Any, cast

import torch
from torch import fx, nn

from zeroq.export.lowering import (
    StoredQuantizer,
    StoredWeight,
    explicit,
    following_quantizer,
    lowered,
    quantizer_of,
)
from zeroq.graph.operators import called, operator_of
from zeroq.layers import WeightedLayer, beside_weight, channel_axis

# Up to here float32 holds every integer, and an activation's step from its zero point is at most 255.
EXACT_IN_FLOAT32 = 2**24
LARGEST_STEP = 255


def integer_arithmetic(quantized: nn.Module, input_shape: tuple[int, int, int] | None = None) -> fx.GraphModule:
    """A copy of a calibrated quantized network that computes as a runtime does with the file of ``export_onnx``.

    Between two quantizers a layer multiplies and adds integers, its bias too, scales the sum once, in float32, and
    rounds it to the grid of what follows (Jacob et al., CVPR 2018, section 2.2); so does the sum of two quantized
    tensors. The roundings are those of onnxruntime's kernels on x86, as it runs placement ``integer``. The rest, such
    as pools and the layer that gives the scores, computes in float from values on their grids.

    ``input_shape`` (channels, height, width) is as in ``quantize``. Takes and gives what ``quantized`` does, in
    float32. Raises ZeroQError as ``export_onnx`` does: the network is not quantized, not calibrated, or cannot be
    traced.
    """
    graph, _ = lowered(explicit(quantized, input_shape))
    for node in list(graph.graph.nodes):
        # Of a layer the one that it sees, by whatever keyword; of a sum both, which may be the same.
        given = node.args if operator_of(graph, node).adds and not node.kwargs else tuple(node.all_input_nodes)
        kernel = _kernel(graph, node, given)
        if kernel is not None:
            graph.add_submodule(name := f"{node.name}_integer", kernel)
            with graph.graph.inserting_after(node):
                node.replace_all_uses_with(graph.graph.call_module(name, given))
            graph.graph.erase_node(node)
    graph.delete_all_unused_submodules()
    graph.graph.lint()
    graph.recompile()
    return graph


def _kernel(graph: fx.GraphModule, node: fx.Node, given: tuple[Any, ...]) -> nn.Module | None:
    """What computes a node in integers, from what it is given; None where runtimes compute it in float."""
    following = following_quantizer(graph, node)
    found = [quantizer_of(graph, each) if isinstance(each, fx.Node) else None for each in given]
    sources = [each for each in found if isinstance(each, StoredQuantizer)]
    if not isinstance(following, StoredQuantizer) or len(sources) < len(found):
        return None
    layer = called(graph, node)
    if isinstance(layer, StoredWeight) and layer.is_integer:
        (source,) = sources
        return IntegerLayer(layer, source, following)
    if operator_of(graph, node).adds and not node.kwargs and len(sources) == 2:
        first, second = sources
        return IntegerSum(first, second, following)
    return None


class IntegerLayer(nn.Module):
    """A layer whose input is on a quantizer's grid, and whose output is on that of the quantizer that follows.

    Its ends are left to that quantizer, and to the activation between.
    """

    bias: torch.Tensor
    factor: torch.Tensor
    input_scale: torch.Tensor
    output_scale: torch.Tensor

    def __init__(self, layer: StoredWeight, source: StoredQuantizer, following: StoredQuantizer):
        super().__init__()
        zero_point = beside_weight(cast(WeightedLayer, layer), layer.weight_zero_point.float())
        steps = layer.weight_integers.float() - zero_point
        self.layer = copy.copy(layer)
        self.layer.__class__ = type(layer).__bases__[1]
        self.layer._buffers = {}
        self.layer._parameters = {"weight": nn.Parameter(steps, requires_grad=False), "bias": None}
        none = torch.zeros(1, dtype=torch.int32, device=steps.device)
        bias = layer.bias_integers if "bias_integers" in layer._buffers else none
        factor = source.scale * layer.weight_scale / following.scale
        per_channel = (-1, *(1,) * (steps.dim() - 2))
        self.register_buffer("bias", bias.view(per_channel))
        self.register_buffer("factor", factor.view(per_channel) if factor.dim() else factor)
        self.register_buffer("input_scale", source.scale)
        self.register_buffer("output_scale", following.scale)
        inputs = [axis for axis in range(steps.dim()) if axis != channel_axis(layer)]
        self.fits_float32 = bool((LARGEST_STEP * steps.abs().double().sum(inputs) <= EXACT_IN_FLOAT32).all())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        total = self._sum((values / self.input_scale).round_()).to(torch.int32).add_(self.bias)
        return total.float().mul_(self.factor).round_().mul_(self.output_scale)

    def _sum(self, steps: torch.Tensor) -> torch.Tensor:
        """The sum of products of integers, exactly; a GPU's float32 may take detours that round."""
        if self.fits_float32 and steps.device.type == "cpu":
            return self.layer(steps)
        return torch.func.functional_call(self.layer, {"weight": self.layer.weight.double()}, (steps.double(),))


class IntegerSum(nn.Module):
    """The sum of two tensors on their quantizers' grids, on that of the quantizer that follows, but for its ends."""

    first_scale: torch.Tensor
    first_zero_point: torch.Tensor
    second_scale: torch.Tensor
    second_zero_point: torch.Tensor
    following_scale: torch.Tensor
    following_zero_point: torch.Tensor

    def __init__(self, first: StoredQuantizer, second: StoredQuantizer, following: StoredQuantizer):
        super().__init__()
        for name, quantizer in {"first": first, "second": second, "following": following}.items():
            self.register_buffer(f"{name}_scale", quantizer.scale)
            self.register_buffer(f"{name}_zero_point", quantizer.zero_point.float())

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        one, other = self.first_scale / self.following_scale, self.second_scale / self.following_scale
        zero = self.following_zero_point - _fused(one, self.first_zero_point, other * self.second_zero_point)
        total = _fused((second / self.second_scale).round() + self.second_zero_point, other, zero)
        total = _fused((first / self.first_scale).round() + self.first_zero_point, one, total)
        return (total.round() - self.following_zero_point) * self.following_scale


def _fused(one: torch.Tensor, other: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """one · other + added in float32, rounded once: a fused multiply-add."""
    return (one.double() * other.double() + added.double()).float()
