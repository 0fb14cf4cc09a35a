"""Empirical bias correction: quantized layers give on average what the float ones give."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.images import check_images
from zeroq.layers import channel_means, is_affine, shift_bias, weighted_layers
from zeroq.modules import evaluating, forward


def correct_biases(quantized: nn.Module, model: nn.Module, images: torch.Tensor) -> None:
    """Shift the bias of every layer until its mean output over the images is the float network's, channel by channel.

    In order of execution, so that each layer sees inputs that are corrected already. ``quantized`` is a calibrated copy
    of ``model`` and is changed in place; a layer without bias gets one, and one whose own forward does more than adding
    its bias (``is_affine``) is left alone. Source: Nagel et al. 2019, section 4.2 and appendix D.

    Raises ZeroQError for images that the network does not accept, where the two do not have the same layers, and where
    they do not call the same ones.
    """
    check_images(images)
    layers, originals = weighted_layers(quantized), weighted_layers(model)
    if layers.keys() != originals.keys():
        raise ZeroQError("the quantized network has other layers than the float one; quantize the one that is given")
    pending = {name: means for name, means in mean_outputs(model, images).items() if is_affine(originals[name])}
    calls = {name: len(means) for name, means in pending.items()}
    while pending:
        before = len(pending)
        # A layer that is called several times needs all its calls before it can be corrected, so it ends a pass.
        gathered: dict[str, list[torch.Tensor]] = defaultdict(list)

        def correct(name: str, layer: nn.Module, output: torch.Tensor) -> torch.Tensor | None:
            if name not in pending or (gathered and name not in gathered):  # noqa: B023 one pass, one dict
                return None
            found = channel_means(layer, output)
            if calls[name] > 1:
                gathered[name].append(found)  # noqa: B023
                return None
            change = pending.pop(name)[0] - found
            shift_bias(layer, change)
            return output + (
                change if isinstance(layer, nn.Linear) else change.view(-1, *(1,) * (layer.weight.dim() - 2))
            )

        with _watched(quantized, correct), evaluating(quantized), torch.no_grad():
            forward(quantized, images)
        for name, found in gathered.items():
            shift_bias(layers[name], torch.stack(pending.pop(name)).mean(0) - torch.stack(found).mean(0))
        if len(pending) == before:
            raise ZeroQError(f"the float network calls {next(iter(pending))!r}, and the quantized one does not")


def mean_outputs(model: nn.Module, images: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """The mean output of each channel of every Conv and Linear layer, one entry a call, in order of execution."""
    found: dict[str, list[torch.Tensor]] = defaultdict(list)

    def record(name: str, layer: nn.Module, output: torch.Tensor) -> None:
        found[name].append(channel_means(layer, output))

    with _watched(model, record), evaluating(model), torch.no_grad():
        forward(model, images)
    return dict(found)


@contextmanager
def _watched(model: nn.Module, see) -> Iterator[None]:
    """Call ``see`` with (name, layer, output) for every layer inside; what it returns replaces the output.

    Outputs of no image at all have no mean and are left out.
    """

    def seen(name: str, layer: nn.Module, output: torch.Tensor) -> torch.Tensor | None:
        return see(name, layer, output) if output.numel() else None

    with ExitStack() as hooks:
        for name, layer in weighted_layers(model).items():
            hooks.enter_context(
                layer.register_forward_hook(lambda layer, inputs, output, name=name: seen(name, layer, output))
            )
        yield
