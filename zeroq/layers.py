"""Conv and Linear layers: which they are, where their channels lie, what a weight makes of an input, its integers."""

from typing import cast

import torch
from torch import nn

from zeroq.borrowing import check_network, copied
from zeroq.errors import ZeroQError

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
WEIGHTED_LAYERS = (*PLAIN, *TRANSPOSED)
TransposedLayer = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
WeightedLayer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear | TransposedLayer
# The share of a network's parameters that weights outside Conv and Linear layers may have and stay in float, as
# position embeddings do.
LARGEST_FLOAT_SHARE = 0.05


def weighted_layers(model: nn.Module) -> dict[str, WeightedLayer]:
    """Every Conv and Linear layer by its qualified name, in the order of registration.

    A module used twice is listed once, under the first of its names. Raises ZeroQError where a layer's weight
    is no parameter but computed at every forward, which would silently undo quantization, and where a considerable
    share of the weights lies outside these layers, which would silently stay in float.
    """
    check_network(model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, WEIGHTED_LAYERS)}
    for name, layer in layers.items():
        if not holds_weight(layer):
            raise ZeroQError(
                f"layer {name!r} computes its weight at every forward (weight norm or a parametrization); make it "
                f"permanent first, with remove_parametrizations or remove_weight_norm from torch.nn.utils"
            )
    _check_weights_elsewhere(model, layers)
    return layers


def _check_weights_elsewhere(model: nn.Module, layers: dict[str, WeightedLayer]) -> None:
    known = {id(layer.weight) for layer in layers.values()}
    elsewhere = {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and id(parameter) not in known
    }
    if layers and sum(elsewhere.values()) > LARGEST_FLOAT_SHARE * sum(p.numel() for p in model.parameters()):
        largest = max(elsewhere, key=elsewhere.__getitem__)
        raise ZeroQError(
            f"{len(elsewhere)} weights outside Conv and Linear layers would stay in float, the largest is {largest!r} "
            f"of {type(model.get_submodule(largest.rpartition('.')[0])).__name__}; put them into Conv or Linear layers"
        )


def weighted_layer(model: nn.Module, name: str) -> WeightedLayer:
    """The Conv or Linear layer of that name."""
    return cast(WeightedLayer, model.get_submodule(name))


def holds_weight(layer: nn.Module) -> bool:
    """Whether a layer's weight is a parameter of its own."""
    return "weight" in dict(layer.named_parameters(recurse=False))


def channel_axis(layer: nn.Module) -> int:
    """The axis of a weight along which its output channels lie."""
    return 1 if isinstance(layer, TRANSPOSED) else 0


def beside_weight(layer: WeightedLayer, values: torch.Tensor) -> torch.Tensor:
    """One value for each output channel, or one for all, in a shape that broadcasts with the layer's weight."""
    axis = channel_axis(layer) if values.dim() else None
    return values.view([-1 if dimension == axis else 1 for dimension in range(layer.weight.dim())])


def weight_by_input(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """A Conv or Linear weight as [groups, outputs of a group, inputs of a group, kernel]; not for transposed layers."""
    groups = getattr(layer, "groups", 1)
    return weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)


def constant_response(layer: nn.Module, weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """What a weight of this layer makes of inputs that are constant in each channel, without padding: [outputs].

    ``values`` is [channels]; a Linear layer behind a flattened map has several inputs a channel.
    """
    grouped = weight_by_input(layer, weight)
    groups, _, inputs, _ = grouped.shape
    spread = values.repeat_interleave(groups * inputs // len(values)).view(groups, inputs)
    return torch.einsum("goik,gi->go", grouped, spread).flatten()


def with_batch(layer: WeightedLayer, values: torch.Tensor) -> torch.Tensor:
    """A layer's input or output with an axis for images in front, where it was called with a single one without."""
    axes = 2 if isinstance(layer, nn.Linear) else layer.weight.dim()
    return values if values.dim() >= axes else values.unsqueeze(0)


def channel_means(layer: WeightedLayer, values: torch.Tensor) -> torch.Tensor:
    """The mean of each channel of a layer's input or output: [channels].

    Channels lie along the last axis for Linear layers, which take vectors and tokens, and else along axis 1.
    """
    values = with_batch(layer, values)
    if isinstance(layer, nn.Linear):
        return values.flatten(0, -2).mean(0)
    return values.transpose(0, 1).flatten(1).mean(1)


def has_stock_forward(layer: nn.Module) -> bool:
    """Whether a Conv or Linear layer's forward is torch's own; hooks and parametrizations may do more."""
    return "forward" not in vars(layer) and all(
        getattr(type(layer), method, None) in {getattr(kind, method, None) for kind in WEIGHTED_LAYERS}
        for method in ("forward", "_conv_forward")
    )


def is_affine(layer: WeightedLayer) -> bool:
    """Whether a layer does what its weight and bias say, and nothing else: output = weight ∗ input + bias.

    A layer with a forward or hooks of its own is tried on random numbers: it may pad its input, but standardizing its
    weight, scaling its input or applying an activation makes it another function. Not decided for transposed
    convolutions, of which only torch's own are.
    """
    if has_stock_forward(layer) and not (layer._forward_hooks or layer._forward_pre_hooks):
        return True
    return not isinstance(layer, TRANSPOSED) and _answers_affinely(layer)


def _answers_affinely(layer: WeightedLayer) -> bool:
    """Try a layer that is not transposed on random numbers, with other weights, with other inputs, with constants."""
    random = torch.Generator().manual_seed(0)
    weight = layer.weight.detach()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
    inputs = weight.shape[1] * getattr(layer, "groups", 1)
    shift, scale, level = (
        0.5 + torch.rand(size, generator=random).to(weight) for size in (len(weight), inputs, inputs)
    )
    # Three times as far as the kernel reaches, so that the place in the middle sees no padding.
    reach = zip(getattr(layer, "kernel_size", ()), getattr(layer, "dilation", ()), strict=True)
    places = [3 * (dilation * (size - 1) + 1) for size, dilation in reach]
    per_channel = (-1, *(1 for _ in places))
    values = torch.randn(2, inputs, *places, generator=random).to(weight)

    def answer(weight: torch.Tensor, bias: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        changed = copied(layer)
        changed.weight, changed.bias = nn.Parameter(weight), nn.Parameter(bias)
        output = changed(given)
        return output[(..., *(size // 2 for size in output.shape[2:]))]

    scaled = (weight_by_input(layer, weight) * scale.view(getattr(layer, "groups", 1), 1, -1, 1)).view_as(weight)
    constants = level.view(per_channel).expand(1, inputs, *places)
    with torch.no_grad():
        try:
            plain, zero = answer(weight, bias, values), answer(weight, bias, 0 * values)
            pairs = [
                (answer(2 * weight, 2 * bias + shift, values), 2 * plain + shift),
                (answer(weight, bias, -values), 2 * zero - plain),
                (answer(scaled, bias, values / scale.view(per_channel)), plain),
                (answer(weight, bias, constants), (constant_response(layer, weight, level) + bias)[None]),
            ]
        except (RuntimeError, TypeError, ValueError):  # it wants something else than one such tensor
            return False
    return all(
        torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item()) for found, expected in pairs
    )


def shift_bias(layer: WeightedLayer, change: torch.Tensor) -> None:
    """Add ``change`` [outputs] to a layer's bias, which it is given where it has none."""
    bias = change if layer.bias is None else layer.bias.detach() + change
    layer.bias = nn.Parameter(bias.to(layer.weight))


def weight_steps(layer: WeightedLayer) -> torch.Tensor:
    """A quantized weight in units of its scale, the integer less the zero point: whole numbers in float64."""
    return (layer.weight.detach().double() / beside_weight(layer, layer.get_buffer("weight_scale").double())).round()


def integer_range(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """The lowest and the highest integer of a grid: 0 … 2ᵏ − 1, or ±(2ᵏ⁻¹ − 1) where it is symmetric."""
    if symmetric:
        highest: int = 2 ** (bits - 1) - 1
        return -highest, highest
    return 0, 2**bits - 1


def weight_grid(layer: WeightedLayer) -> tuple[int, int]:
    """The lowest and the highest integer of a quantized weight's grid: symmetric around 0 where that holds it.

    Read from its buffers alone, which a state dict may have brought.
    """
    bits = int(layer.get_buffer("weight_bits"))
    symmetric = integer_range(bits, symmetric=True)
    if not layer.get_buffer("weight_zero_point").any() and weight_steps(layer).abs().max() <= symmetric[1]:
        return symmetric
    return integer_range(bits, symmetric=False)
