"""What a network does for one image: multiplications by layer, and values by activation quantizer."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.images import check_images
from zeroq.layers import TRANSPOSED, weighted_layers
from zeroq.modules import evaluating, first_argument, forward
from zeroq.quantization.convert import activation_quantizers, quantizer_places
from zeroq.quantization.permanent_weights import with_permanent_weights


def multiply_accumulates(model: nn.Module, images: torch.Tensor) -> dict[str, int]:
    """Multiplications with a weight that each Conv and Linear layer does for one image, by the layer's name.

    Counted on the first of ``images``, float [N, C, H, W] and normalised, over all calls of the layer; 0 for a layer
    that the image does not reach. Products with padding count. Raises ZeroQError for images that the network does not
    accept.
    """
    model = with_permanent_weights(model)
    layers = weighted_layers(model)
    counts = dict.fromkeys(layers, 0)

    def count(name: str, layer: nn.Module, values: torch.Tensor, output: torch.Tensor) -> None:
        # Each output value meets the weights that lead to it; of a transposed convolution, each input value.
        places = values if isinstance(layer, TRANSPOSED) else output
        weight = layers[name].weight
        counts[name] += places.numel() * (weight.numel() // len(weight))

    _watch(model, layers, images, count)
    return counts


def activation_elements(quantized: nn.Module, images: torch.Tensor) -> dict[str, int]:
    """Values that pass through each activation quantizer for one image, by its place (``quantizer_places``).

    Counted as in ``multiply_accumulates``; ``quantized`` is calibrated. Raises ZeroQError for images that the network
    does not accept.
    """
    places = quantizer_places(quantized)
    found = activation_quantizers(quantized)
    counts = dict.fromkeys(places, 0)

    def count(place: str, quantizer: nn.Module, values: torch.Tensor, output: torch.Tensor) -> None:
        counts[place] += values.numel()

    _watch(quantized, {place: found[name] for place, name in places.items()}, images, count)
    return counts


def mean_activation_bits(elements: Mapping[str, int], activation_bits: float | Mapping[str, int]) -> float:
    """Mean bits of a value that passes through an activation quantizer, for counts of ``activation_elements``.

    Raises ZeroQError where no quantizer sees a value.
    """
    if not sum(elements.values()):
        raise ZeroQError("no value passes through an activation quantizer, so their bits have no mean")
    if not isinstance(activation_bits, Mapping):
        return float(activation_bits)
    return sum(count * activation_bits[place] for place, count in elements.items()) / sum(elements.values())


def bit_operations(
    counts: Mapping[str, int], weight_bits: int | Mapping[str, int], activation_bits: int | Mapping[str, int]
) -> int:
    """BOPs: multiplications × weight bits × bits of the layer's input, summed over layers.

    ``counts`` as from ``multiply_accumulates``; widths are one for all layers or one for each. Source: Baskin et al.,
    UNIQ (ACM TOCS 2021), without the terms for the accumulator.
    """

    def of(bits: int | Mapping[str, int], name: str) -> int:
        return bits[name] if isinstance(bits, Mapping) else bits

    return sum(count * of(weight_bits, name) * of(activation_bits, name) for name, count in counts.items())


def _watch(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    images: torch.Tensor,
    see: Callable[[str, nn.Module, torch.Tensor, torch.Tensor], None],
) -> None:
    """Call ``see`` with (name, module, first input, output) at every call of these modules by the first image."""
    check_images(images)
    with _hooked(modules, see), evaluating(model), torch.no_grad():
        forward(model, images[:1])


@contextmanager
def _hooked(modules: Mapping[str, nn.Module], see: Callable[..., None]) -> Iterator[None]:
    def behind(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: torch.Tensor) -> None:
            see(name, module, first_argument(inputs, named), output)

        return hook

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(behind(name), with_kwargs=True))
        yield
