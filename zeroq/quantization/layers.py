"""Quantized layers: the layer's own class, with a quantized weight and quantizers around its forward.

A layer is converted in place by giving it a subclass of its own class. It stays the same object, so every
place that refers to it (a ModuleList, an attribute, a second use) sees the conversion, a subclass of
Conv2d keeps its own forward, and ``isinstance(layer, nn.Conv2d)`` stays true.
"""

from functools import cache
from typing import Any, cast

import torch
from torch import nn

from zeroq.graph.tracers import Leaf
from zeroq.layers import WeightedLayer, channel_axis
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import (
    FLOAT_BITS,
    AffineParameters,
    Granularity,
    WeightRange,
    fake_quantize,
    weight_parameters,
)


class _Converted(nn.Module):
    """Mixed in before a layer's own class."""

    input_quantizer: ActivationQuantizer | None
    output_quantizer: ActivationQuantizer | None

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if self.input_quantizer is not None:
            if inputs:
                inputs = (self.input_quantizer(inputs[0]), *inputs[1:])
            else:
                first = next(iter(named))
                named[first] = self.input_quantizer(named[first])
        output = super().forward(*inputs, **named)
        return output if self.output_quantizer is None else self.output_quantizer(output)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made on the fly, so a pickle names its two bases instead.
        return _empty, type(self).__bases__, self.__dict__


class QuantizedWeight(_Converted):
    """A Conv or Linear layer whose ``weight`` was quantized once, when it was converted.

    ``weight`` holds the dequantized values; the buffers ``weight_scale``, ``weight_zero_point`` (one value a
    channel, or one) and ``weight_bits`` say which integers they stand for.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    weight_scale: torch.Tensor
    weight_zero_point: torch.Tensor
    weight_bits: torch.Tensor

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *arguments: Any) -> None:
        # Bias correction gives a bias to layers that had none.
        if self.bias is None and f"{prefix}bias" in state:
            self.bias = nn.Parameter(torch.empty_like(state[f"{prefix}bias"], device=self.weight.device))
        super()._load_from_state_dict(state, prefix, *arguments)


class QuantizedOutput(_Converted, Leaf):
    """A layer without weights whose output is quantized."""


def plain_again(layer: _Converted) -> tuple[ActivationQuantizer | None, ActivationQuantizer | None]:
    """Make a converted layer one of its own class again, in place, and give its input's and its output's quantizer.

    Its weight stays quantized, and the buffers that say how stay with it.
    """
    quantizers = layer.input_quantizer, layer.output_quantizer
    layer.__class__ = type(layer).__bases__[1]
    del layer.input_quantizer, layer.output_quantizer
    return quantizers


def quantize_weight(
    layer: WeightedLayer,
    bits: int,
    *,
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
) -> None:
    """Convert a Conv or Linear layer in place and quantize its weight; 32 bits leave the weight float."""
    _convert(layer, QuantizedWeight)
    layer.register_buffer("weight_bits", torch.tensor(FLOAT_BITS, dtype=torch.int32, device=layer.weight.device))
    round_to_nearest(layer, bits, per_channel=per_channel, symmetric=symmetric, weight_range=weight_range)


def round_to_nearest(
    layer: WeightedLayer,
    bits: int,
    *,
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
) -> None:
    """Quantize the float weight of a layer that ``quantize_weight`` converted; 32 bits leave it float."""
    if bits == FLOAT_BITS:
        return
    how: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    parameters = weight_parameters(layer.weight, bits, axis=channel_axis(layer), **how)
    store_weight(layer, layer.weight, parameters, bits)


def store_weight(layer: WeightedLayer, weight: torch.Tensor, parameters: AffineParameters, bits: int) -> None:
    """Give a layer that was converted by ``quantize_weight`` a weight's nearest values on a grid of so many bits."""
    values = fake_quantize(weight.detach().to(layer.weight.dtype), parameters, axis=channel_axis(layer))
    # Strides decide which kernels run.
    values = torch.empty_like(layer.weight, requires_grad=False).copy_(values)
    layer.weight = nn.Parameter(values, requires_grad=layer.weight.requires_grad)
    layer.get_buffer("weight_bits").fill_(bits)
    layer.register_buffer("weight_scale", parameters.scale)
    layer.register_buffer("weight_zero_point", parameters.zero_point)


def quantize_input(layer: nn.Module, quantizer: ActivationQuantizer) -> None:
    """Put a quantizer before a layer that was converted by ``quantize_weight``."""
    cast(_Converted, layer).input_quantizer = quantizer


def quantize_output(layer: nn.Module, quantizer: ActivationQuantizer) -> None:
    """Convert a layer without weights in place and put a quantizer behind it."""
    _convert(layer, QuantizedOutput).output_quantizer = quantizer


def _convert(layer: nn.Module, kind: type) -> _Converted:
    own: type = type(layer)
    layer.__class__ = _converted_class(kind, own)
    converted = cast(_Converted, layer)
    converted.input_quantizer = None
    converted.output_quantizer = None
    return converted


@cache
def _converted_class(kind: type, base: type) -> Any:
    return type(f"Quantized{base.__name__}", (kind, base), {"__doc__": kind.__doc__})


def _empty(kind: type, base: type) -> nn.Module:
    converted = _converted_class(kind, base)
    return converted.__new__(converted)
