"""A network → its quantized copy."""

from collections.abc import Mapping
from functools import partial
from typing import Literal, cast, get_args

from torch import fx, nn

from zeroq.borrowing import copied
from zeroq.errors import ZeroQError
from zeroq.graph.operators import RELUS
from zeroq.graph.placement import HOLDER, place_quantizers, remove_quantizer
from zeroq.graph.tracing import trace
from zeroq.layers import weighted_layers
from zeroq.modules import model_device
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import FLOAT_BITS, LARGEST_BITS, WeightRange, check_bits, check_weight_range
from zeroq.quantization.layers import QuantizedOutput, QuantizedWeight, quantize_input, quantize_output, quantize_weight
from zeroq.quantization.permanent_weights import with_permanent_weights

Placement = Literal["layer_inputs", "after_relu", "integer"]


def convert(
    model: nn.Module,
    weight_bits: float | Mapping[str, int] = 8,
    activation_bits: float | Mapping[str, int] = 8,
    placement: Placement = "layer_inputs",
    *,
    per_channel: bool = True,
    symmetric: bool | None = None,
    weight_range: WeightRange = "with_zero",
    dynamic: bool = False,
    input_shape: tuple[int, int, int] | None = None,
) -> nn.Module:
    """A quantized copy of a network, in evaluation mode; the given network is untouched.

    Every Conv and Linear weight is rounded to the nearest value of its grid, once, here. Activations need ``calibrate``
    first, unless ``dynamic``. The copy's state dict carries scales, zero points and bits.

    Arguments as in ``zeroq.quantize``, which also rounds in other ways.

    Raises:
        ZeroQError: bits out of range, a mapping that does not fit the network, an unknown placement or range of
            weights, a network without the layers that the placement looks for, one that is quantized already, or, for
            ``integer``, one that cannot be traced.
    """
    check_placement(placement)
    check_activation_bits(activation_bits)
    symmetric = is_symmetric(symmetric, placement)
    check_weight_range(weight_range, symmetric=symmetric)
    if any(isinstance(module, QuantizedWeight | QuantizedOutput) for module in model.modules()):
        raise ZeroQError("the network is quantized already; quantize the float network instead")
    model = with_permanent_weights(model)
    plan = resolve_weight_bits(model, weight_bits)

    quantized = trace(model, input_shape) if placement == "integer" else copied(model).eval()
    layers = weighted_layers(quantized)
    for name, layer in layers.items():
        quantize_weight(layer, plan[name], per_channel=per_channel, symmetric=symmetric, weight_range=weight_range)
    if activation_bits == FLOAT_BITS:
        return quantized

    # Where they stand has no say in how wide they are: a mapping's widths follow once all are there.
    widest = LARGEST_BITS if isinstance(activation_bits, Mapping) else activation_bits
    quantizer = partial(ActivationQuantizer, widest, dynamic=dynamic, device=model_device(quantized))
    if placement == "layer_inputs":
        for layer in layers.values():
            quantize_input(layer, quantizer())
    elif placement == "integer":
        place_quantizers(cast(fx.GraphModule, quantized), quantizer)
    else:
        relus = [module for module in quantized.modules() if isinstance(module, RELUS)]
        if not relus:
            raise ZeroQError(
                "placement after_relu looks for ReLU modules and the network has none (functional relu calls "
                "cannot be seen); use placement='layer_inputs'"
            )
        for relu in relus:
            quantize_output(relu, quantizer())
    if isinstance(activation_bits, Mapping):
        _set_widths(quantized, activation_bits)
    return quantized


def resolve_weight_bits(model: nn.Module, weight_bits: float | Mapping[str, int]) -> dict[str, int]:
    """Bits of every Conv and Linear layer by name; raises ZeroQError where the mapping does not fit."""
    names = weighted_layers(model).keys()
    if not names:
        raise ZeroQError("the network has no Conv or Linear layer, so there is nothing to quantize")
    widths = weight_bits if isinstance(weight_bits, Mapping) else dict.fromkeys(names, weight_bits)
    unknown, missing = widths.keys() - names, names - widths.keys()
    if unknown or missing:
        raise ZeroQError(
            f"weight_bits must name every Conv and Linear layer once: missing {sorted(missing)}, "
            f"unknown {sorted(unknown)}"
        )
    for bits in widths.values():
        check_bits(bits)
    return {name: int(widths[name]) for name in names}


def check_activation_bits(activation_bits: float | Mapping[str, int]) -> None:
    """Raise ZeroQError unless every width is 2…8, or 32 for float; which places a mapping must name, a network says."""
    for bits in activation_bits.values() if isinstance(activation_bits, Mapping) else (activation_bits,):
        check_bits(bits)


def is_symmetric(symmetric: bool | None, placement: Placement) -> bool:
    """Whether zero points of weights are fixed at 0; None means the placement's own."""
    return placement == "integer" if symmetric is None else symmetric


def check_placement(placement: str) -> None:
    """Raise ZeroQError for a placement that does not exist."""
    if placement not in get_args(Placement):
        raise ZeroQError(f"placement must be one of {', '.join(get_args(Placement))}, not {placement!r}")


def activation_quantizers(quantized: nn.Module) -> dict[str, ActivationQuantizer]:
    """Every activation quantizer of a quantized network, by name."""
    return {name: module for name, module in quantized.named_modules() if isinstance(module, ActivationQuantizer)}


def quantizer_places(quantized: nn.Module) -> dict[str, str]:
    """{place: quantizer's name} of a quantized network, as ``activation_bits`` names places.

    With placement ``layer_inputs`` a place is the layer's name, with ``after_relu`` the ReLU module's, and with
    ``integer`` that of the graph's node.
    """
    names = activation_quantizers(quantized)
    return {
        name.removeprefix(f"{HOLDER}.") if name.startswith(f"{HOLDER}.") else name.rpartition(".")[0]: name
        for name in names
    }


def _set_widths(quantized: nn.Module, activation_bits: Mapping[str, int]) -> None:
    """Give each quantizer its own width; one of 32 bits is taken out. Raises ZeroQError where names do not fit."""
    places, quantizers = quantizer_places(quantized), activation_quantizers(quantized)
    unknown, missing = activation_bits.keys() - places.keys(), places.keys() - activation_bits.keys()
    if unknown or missing:
        raise ZeroQError(
            f"activation_bits must name every activation quantizer once, with placement layer_inputs by the layer's "
            f"name: missing {sorted(missing)}, unknown {sorted(unknown)}"
        )
    for place, name in places.items():
        if (bits := activation_bits[place]) != FLOAT_BITS:
            quantizers[name].set_bits(bits)
        elif name.startswith(f"{HOLDER}."):
            remove_quantizer(cast(fx.GraphModule, quantized), name)
        else:
            owner, _, role = name.rpartition(".")
            setattr(quantized.get_submodule(owner), role, None)
