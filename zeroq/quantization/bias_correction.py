"""Empirical bias correction: quantized layers give on average what the float ones give."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.images import check_images
from zeroq.layers import WeightedLayer, channel_means, is_affine, shift_bias, weighted_layers
from zeroq.modules import evaluating, forward

# What is measured of one call of a layer, given the layer and its output.
Measure = Callable[[WeightedLayer, torch.Tensor], torch.Tensor]


def correct_biases(quantized: nn.Module, model: nn.Module, images: torch.Tensor) -> None:
    """Shift the bias of every layer until its mean output over the images is the float network's, channel by channel.

    In order of execution, so that each layer sees inputs that are corrected already. ``quantized`` is a calibrated copy
    of ``model`` and is changed in place; a layer without bias gets one, and one whose own forward does more than adding
    its bias (``is_affine``) is left alone. Source: Nagel et al. 2019, section 4.2 and appendix D.

    Raises ZeroQError for images that the network does not accept, where the two do not have the same layers, and where
    they do not call the same ones.
    """

    def change(name: str, expected: list[torch.Tensor], found: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(expected).mean(0) - torch.stack(found).mean(0)

    shift_biases(quantized, model, images, channel_means, change)


def shift_biases(
    quantized: nn.Module,
    model: nn.Module,
    images: torch.Tensor,
    measure: Measure,
    change: Callable[[str, list[torch.Tensor], list[torch.Tensor]], torch.Tensor],
) -> None:
    """Shift each layer's bias by ``change`` of its name and what ``measure`` gave for its calls, float and quantized.

    The other arguments, the order and the errors are those of ``correct_biases``.
    """
    check_images(images)
    layers, originals = weighted_layers(quantized), weighted_layers(model)
    if layers.keys() != originals.keys():
        raise ZeroQError("the quantized network has other layers than the float one; quantize the one that is given")
    measured = measured_outputs(model, images, measure)
    pending = {name: values for name, values in measured.items() if is_affine(originals[name])}
    calls = {name: len(values) for name, values in pending.items()}
    while pending:
        before = len(pending)
        # A layer that is called several times needs all its calls before it can be corrected, so it ends a pass.
        gathered: dict[str, list[torch.Tensor]] = defaultdict(list)

        def correct(name: str, layer: WeightedLayer, output: torch.Tensor) -> torch.Tensor | None:
            if name not in pending or (gathered and name not in gathered):  # noqa: B023 one pass, one dict
                return None
            found = measure(layer, output)
            if calls[name] > 1:
                gathered[name].append(found)  # noqa: B023
                return None
            shift = change(name, pending.pop(name), [found]).to(output.dtype)
            shift_bias(layer, shift)
            return output + (
                shift if isinstance(layer, nn.Linear) else shift.view(-1, *(1,) * (layer.weight.dim() - 2))
            )

        with _watched(quantized, correct), evaluating(quantized), torch.no_grad():
            forward(quantized, images)
        for name, found in gathered.items():
            shift_bias(layers[name], change(name, pending.pop(name), found))
        if len(pending) == before:
            raise ZeroQError(f"the float network calls {next(iter(pending))!r}, and the quantized one does not")


def measured_outputs(
    model: nn.Module, images: torch.Tensor, measure: Measure = channel_means
) -> dict[str, list[torch.Tensor]]:
    """What is measured of every Conv and Linear layer's output, one entry a call, in order of execution."""
    found: dict[str, list[torch.Tensor]] = defaultdict(list)

    def record(name: str, layer: WeightedLayer, output: torch.Tensor) -> None:
        found[name].append(measure(layer, output))

    with _watched(model, record), evaluating(model), torch.no_grad():
        forward(model, images)
    return dict(found)


@contextmanager
def _watched(
    model: nn.Module, see: Callable[[str, WeightedLayer, torch.Tensor], torch.Tensor | None]
) -> Iterator[None]:
    """Call ``see`` with (name, layer, output) for every layer inside; what it returns replaces the output.

    Outputs of no image at all have no mean and are left out.
    """

    def seen(name: str, layer: WeightedLayer, output: torch.Tensor) -> torch.Tensor | None:
        return see(name, layer, output) if output.numel() else None

    with ExitStack() as hooks:
        for name, layer in weighted_layers(model).items():
            hooks.enter_context(
                layer.register_forward_hook(lambda layer, inputs, output, name=name: seen(name, layer, output))
            )
        yield
