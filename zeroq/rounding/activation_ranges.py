"""Activation ranges that disturb the layer behind them least."""

from collections import defaultdict
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from zeroq.images import evenly_spread
from zeroq.layers import weighted_layers
from zeroq.modules import evaluating, first_argument, forward
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import AffineParameters, affine_parameters, fake_quantize

# Of the recorded range; the whole comes first, so that of equal errors it is kept.
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3)
# Enough to tell the shares apart.
IMAGES = 16


def narrow_ranges(quantized: nn.Module, model: nn.Module, images: torch.Tensor) -> None:
    """Cut each layer's input range to the share of it that changes the layer's output least, in mean square.

    Args:
        quantized: what ``quantize`` made of ``model`` with placement ``layer_inputs``, calibrated on the images; its
            input quantizers are changed in place. Quantizers that stand elsewhere keep their ranges.
        model: the float network, whose layers and activations say what an output should be.
        images: float [N, C, H, W], normalised.

    Clipping the few largest values makes the steps between all others smaller. The whole range is one of the
    candidates, so that no layer's output gets worse on the images that are looked at, 16 of them.
    """
    found = {name: getattr(layer, "input_quantizer", None) for name, layer in weighted_layers(quantized).items()}
    quantizers = {name: each for name, each in found.items() if each is not None and each.calibrated}
    candidates = {name: range_candidates(quantizer) for name, quantizer in quantizers.items()}
    errors: dict[str, torch.Tensor] = defaultdict(lambda: torch.zeros(len(SHARES), dtype=torch.float64))

    def measure(name: str, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        def output(values: torch.Tensor) -> torch.Tensor:  # without the caller's hooks, which may change it
            if inputs:
                return layer.forward(values, *inputs[1:], **named)
            return layer.forward(**named | {next(iter(named)): values})

        values = first_argument(inputs, named)
        expected = output(values)
        for index, parameters in enumerate(candidates[name]):
            changed = output(fake_quantize(values, parameters))
            errors[name][index] += (changed - expected).double().square().sum().cpu()

    chosen = evenly_spread(images, IMAGES)
    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for name, layer in weighted_layers(model).items():
            if name in candidates:
                hook = lambda layer, inputs, named, name=name: measure(name, layer, inputs, named)  # noqa: E731
                hooks.enter_context(layer.register_forward_pre_hook(hook, with_kwargs=True))
        forward(model, chosen)
    for name, of_shares in errors.items():
        quantizers[name].set_parameters(candidates[name][int(of_shares.argmin())])


def range_candidates(quantizer: ActivationQuantizer) -> list[AffineParameters]:
    """The grids of each of the ``SHARES`` of a calibrated quantizer's range."""
    bits = int(quantizer.bits)
    low = -quantizer.scale * quantizer.zero_point
    high = quantizer.scale * (2**bits - 1 - quantizer.zero_point)
    return [affine_parameters(share * low, share * high, bits) for share in SHARES]
