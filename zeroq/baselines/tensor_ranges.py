"""Activation ranges that each tensor's own values choose."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from zeroq.modules import evaluating, forward
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import affine_parameters
from zeroq.quantization.convert import activation_quantizers

# Values and bits → the ends of their range, each 0-dimensional.
Ends = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]


def choose_ranges(quantized: nn.Module, images: torch.Tensor, ends: Ends) -> None:
    """Give each activation the range that ``ends`` finds in its values over the images; all pass through at once.

    ``quantized`` is calibrated, with these images or others, and is changed in place; while values are looked at,
    activations stay float, as in ``calibrate``. A quantizer that several tensors pass holds the ranges of all.
    """
    found: dict[ActivationQuantizer, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)

    def look(quantizer: ActivationQuantizer, inputs: tuple[Any, ...]) -> None:
        values = inputs[0]
        if isinstance(values, torch.Tensor) and values.is_floating_point() and values.numel():
            found[quantizer].append(ends(values.detach(), int(quantizer.bits)))

    quantizers = activation_quantizers(quantized).values()
    with ExitStack() as hooks:
        for quantizer in quantizers:
            quantizer.start_recording(None)  # values pass as they are
            hooks.callback(quantizer.stop_recording)
            hooks.enter_context(quantizer.register_forward_pre_hook(look))
        with evaluating(quantized), torch.no_grad():
            forward(quantized, images)
    for quantizer, pairs in found.items():
        low, high = (torch.stack(each) for each in zip(*pairs, strict=True))
        quantizer.set_parameters(affine_parameters(low.min(), high.max(), int(quantizer.bits)))
