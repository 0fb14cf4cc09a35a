"""Calibration: record activation ranges over images and freeze them."""

from typing import Literal, get_args

import torch
from torch import nn

from zeroq.borrowing import check_network
from zeroq.errors import ZeroQError
from zeroq.images import check_images
from zeroq.modules import evaluating, forward
from zeroq.quantization.convert import activation_quantizers
from zeroq.quantization.layers import QuantizedOutput, QuantizedWeight

Calibration = Literal["float", "quantized"]


def calibrate(
    quantized: nn.Module,
    images: torch.Tensor,
    percentile: float | None = None,
    calibration: Calibration = "float",
) -> None:
    """Record the range of every activation over the images, then freeze scale and zero point.

    Args:
        quantized: a network from ``quantize``.
        images: float [N, C, H, W], normalised; all pass through at once.
        percentile: None for min–max; p in (50, 100] cuts the lowest and the highest 100 − p percent.
        calibration: while ranges are recorded, activations stay ``float``, or each is ``quantized`` as soon as its
            range is known, so that ranges behind it are those of quantized activations (the published code).

    Raises:
        ZeroQError: images of the wrong shape or with NaN, activations that are not finite, a percentile out of
            range, an unknown ``calibration``, a network that is not quantized. The ranges are then those from before.
    """
    check_network(quantized)
    check_images(images)
    check_percentile(percentile)
    check_calibration(calibration)
    if not any(isinstance(module, QuantizedWeight | QuantizedOutput) for module in quantized.modules()):
        raise ZeroQError("the network is not quantized; calibrate what zeroq.quantize returns")
    found = activation_quantizers(quantized)
    quantizers = {name: quantizer for name, quantizer in found.items() if not quantizer.dynamic}
    try:
        for quantizer in quantizers.values():
            quantizer.start_recording(percentile, quantizing=calibration == "quantized")
        with evaluating(quantized), torch.no_grad():
            forward(quantized, images)
        for name, quantizer in quantizers.items():
            if not quantizer.recorded_finite:
                raise ZeroQError(
                    f"{name} sees NaN or infinite values: the network's weights or statistics are damaged, or the "
                    f"images are far out of its range"
                )
    except BaseException:
        for quantizer in quantizers.values():
            quantizer.stop_recording()
        raise
    for quantizer in quantizers.values():
        quantizer.freeze()


def check_percentile(percentile: float | None) -> None:
    """Raise ZeroQError unless ``percentile`` is None or from 75 to 100, so that half of all values are in."""
    if percentile is not None and not 75 <= percentile <= 100:
        raise ZeroQError(f"percentile must be at least 75 and at most 100, such as 99.9, not {percentile}")


def check_calibration(calibration: str) -> None:
    """Raise ZeroQError unless activations stay float or are quantized while their ranges are recorded."""
    if calibration not in get_args(Calibration):
        raise ZeroQError(f"calibration must be one of {', '.join(get_args(Calibration))}, not {calibration!r}")
