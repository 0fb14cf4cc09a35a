"""A float network → its quantized copy, by any way to round its weights."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.errors import ZeroQError
from zeroq.images import check_images, shape_of
from zeroq.quantization.affine import FLOAT_BITS, Granularity, WeightRange
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import Placement, convert, is_symmetric, resolve_weight_bits
from zeroq.quantization.permanent_weights import with_permanent_weights
from zeroq.rounding.layer_by_layer import round_layer_by_layer
from zeroq.rounding.learned import learn_rounding

Rounding = Literal["nearest", "compensated", "learned"]


@borrows
def quantize(
    model: nn.Module,
    weight_bits: int | Mapping[str, int] = 8,
    activation_bits: int | Mapping[str, int] = 8,
    placement: Placement = "layer_inputs",
    *,
    per_channel: bool = True,
    symmetric: bool | None = None,
    weight_range: WeightRange = "with_zero",
    dynamic: bool = False,
    rounding: Rounding = "nearest",
    images: torch.Tensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
) -> nn.Module:
    """A quantized copy of a network, in evaluation mode; the given network is untouched.

    Rounded to the nearest, its activations need ``calibrate`` first, unless ``dynamic``. Compensated and learned
    rounding look at images, so that their result is calibrated on them already (min-max), and its biases are corrected.
    The copy's state dict carries scales, zero points and bits. Weights that layers compute at every forward
    (standardized ones, weight norm) are its layers' own (``with_permanent_weights``).

    Args:
        weight_bits: 2…8 for every layer, 32 for float, or a mapping that names each Conv and Linear layer.
        activation_bits: 2…8, or 32 for float, for every activation, or a mapping that names each quantizer: with
            placement ``layer_inputs`` by the layer's name, with ``after_relu`` by the ReLU module's, with ``integer``
            by the graph's node (``quantizer_places``).
        placement: ``layer_inputs`` quantizes the input of every Conv and Linear layer, the network's image
            included; ``after_relu`` the output of every ReLU and ReLU6 module (the published code); ``integer`` all
            that an integer runtime keeps quantized (``place_quantizers``), for which the network is traced.
        per_channel: one weight range for each output channel, or one for the tensor.
        symmetric: weight zero points fixed at 0; None: where the placement is ``integer``, since the integer kernels
            of runtimes are slow with any other.
        weight_range: ``with_zero``, the least and the largest weight, extended to hold 0; ``min_max``, not extended
            (the published code), with zero points that may lie outside of the grid, where no file holds them.
        dynamic: activation ranges are each batch's own min–max; no calibration.
        rounding: ``nearest``, ``compensated`` for the layer's output on the images (``round_layer_by_layer``), or
            ``learned`` from there for the output of each block of layers (``learn_rounding``).
        images: float [N, C, H, W], normalised, for compensated and learned rounding.
        input_shape: (channels, height, width) of images, where placement ``integer`` meets Python code that asks for
            sizes; of the images, where there are some.

    Raises:
        ZeroQError: bits out of range, a mapping that does not fit the network, an unknown placement, rounding or range
            of weights, a network without the layers that the placement looks for, one that is quantized already, or,
            for ``integer``, one that cannot be traced; images that are missing, or that nothing would look at.
    """
    check_rounding(rounding)
    if (rounding == "nearest") != (images is None):
        raise ZeroQError(
            "images are for compensated and learned rounding; rounding to the nearest looks at none, calibrate does"
            if images is not None
            else f"rounding {rounding} looks at images; give some, such as zeroq.distill's, images=…"
        )
    how: Granularity = {
        "per_channel": per_channel,
        "symmetric": is_symmetric(symmetric, placement),
        "weight_range": weight_range,
    }
    if images is None:
        return convert(model, weight_bits, activation_bits, placement, dynamic=dynamic, input_shape=input_shape, **how)
    check_images(images)
    model = with_permanent_weights(model)
    plan = resolve_weight_bits(model, weight_bits)
    shape = shape_of(images)
    quantized = convert(model, FLOAT_BITS, activation_bits, placement, dynamic=dynamic, input_shape=shape, **how)
    calibrate(quantized, images)
    round_layer_by_layer(quantized, model, images, plan, correct=True, **how)
    if rounding == "learned":
        learn_rounding(quantized, model, images, **how)
    return quantized


def check_rounding(rounding: str) -> None:
    """Raise ZeroQError for a rounding that does not exist."""
    if rounding not in get_args(Rounding):
        raise ZeroQError(f"rounding must be one of {', '.join(get_args(Rounding))}, not {rounding!r}")
