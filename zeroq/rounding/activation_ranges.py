"""Activation ranges that disturb the layer behind them least."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn

from zeroq.images import evenly_spread
from zeroq.layers import weighted_layers
from zeroq.modules import evaluating, first_argument, forward
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import AffineParameters, affine_parameters, fake_quantize
from zeroq.rounding.layer_by_layer import number_of_calls

# Of the recorded range; the whole comes first, so that of equal errors it is kept.
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3)
# The error falls with the share and rises again, but for chance: so many worse ones end the search.
WORSE_IN_TURN = 3
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
    candidates, so that no layer's output gets worse on the images that are looked at, 16 of them. Narrower ranges
    follow until several in turn are worse than the best.
    """
    found = {name: getattr(layer, "input_quantizer", None) for name, layer in weighted_layers(quantized).items()}
    quantizers = {name: each for name, each in found.items() if each is not None and each.calibrated}
    chosen = evenly_spread(images, IMAGES)
    calls = number_of_calls(model, chosen)
    seen: dict[str, list[_Call]] = defaultdict(list)

    def visit(name: str, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        def output(values: torch.Tensor) -> torch.Tensor:  # without the caller's hooks, which may change it
            if inputs:
                return layer.forward(values, *inputs[1:], **named)
            return layer.forward(**named | {next(iter(named)): values})

        values = first_argument(inputs, named)
        if not values.numel():
            return
        expected = output(values)
        several = calls[name] > 1
        seen[name].append(_Call(values.clone() if several else values, output, expected))  # it may change in place
        if len(seen[name]) == calls[name]:
            quantizers[name].set_parameters(least_disturbing(range_candidates(quantizers[name]), seen.pop(name)))

    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for name, layer in weighted_layers(model).items():
            if name in quantizers:
                hook = lambda layer, inputs, named, name=name: visit(name, layer, inputs, named)  # noqa: E731
                hooks.enter_context(layer.register_forward_pre_hook(hook, with_kwargs=True))
        forward(model, chosen)


class _Call(NamedTuple):
    """A layer's input, what its output is of any input, and of this one."""

    values: torch.Tensor
    output: Callable[[torch.Tensor], torch.Tensor]
    expected: torch.Tensor


def least_disturbing(candidates: Sequence[AffineParameters], calls: Sequence[_Call]) -> AffineParameters:
    """The grid whose rounding of the inputs changes the outputs of all calls least, of equal ones the first."""
    errors: list[float] = []
    for parameters in candidates:
        changes = (call.output(fake_quantize(call.values, parameters)) - call.expected for call in calls)
        errors.append(sum(change.double().square().sum().item() for change in changes))
        best = errors.index(min(errors))
        if len(errors) - 1 - best == WORSE_IN_TURN:
            break
    return candidates[best]


def range_candidates(quantizer: ActivationQuantizer) -> list[AffineParameters]:
    """The grids of each of the ``SHARES`` of a calibrated quantizer's range."""
    bits = int(quantizer.bits)
    low = -quantizer.scale * quantizer.zero_point
    high = quantizer.scale * (2**bits - 1 - quantizer.zero_point)
    return [affine_parameters(share * low, share * high, bits) for share in SHARES]
