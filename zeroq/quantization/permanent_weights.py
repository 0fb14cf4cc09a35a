"""What layers compute at every forward from parameters alone and multiply with, made their weight: it is quantized.

Standardized weights (NFNets, BiT), weight norm, spectral norm and pruning: to quantize the parameters behind them would
leave the weight itself in float.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode

from zeroq.borrowing import copied
from zeroq.layers import WEIGHTED_LAYERS, WeightedLayer, has_stock_forward, holds_weight

PRODUCTS = {
    *(functional.linear, functional.conv1d, functional.conv2d, functional.conv3d),
    *(functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d),
}
# Beyond a kernel's reach, so that strides meet sizes of every remainder.
SIZES = (4, 5, 7)


class SamePadded(nn.Conv2d):
    """Pads its input to an output of ⌈size / stride⌉, behind one more than before where it must, as TensorFlow does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sides: list[int] = []
        for size, kernel, stride, dilation in zip(
            x.shape[2:], self.kernel_size, self.stride, self.dilation, strict=True
        ):
            missing = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            sides = [missing // 2, missing - missing // 2, *sides]
        return super().forward(functional.pad(x, sides))


def with_permanent_weights(model: nn.Module) -> nn.Module:
    """The network itself or, where Conv or Linear layers compute their weights, a copy in which they hold them.

    The copy computes the same, and its layers have the same names. A layer that computes its weight from its input as
    well, or does something else besides, stays as it is.
    """
    layers = [module for module in model.modules() if isinstance(module, WEIGHTED_LAYERS)]
    changed: dict[nn.Module, nn.Module] = {layer: twin for layer in layers if (twin := permanent(layer)) is not None}
    return copied(model, changed) if changed else model


@torch.no_grad()
def permanent(layer: WeightedLayer) -> WeightedLayer | None:
    """A copy of a Conv or Linear layer that holds the weight it computes; None where there is none to hold."""
    holds = holds_weight(layer)
    if holds and has_stock_forward(layer):
        return None
    twin = copied(layer).eval()  # in training, spectral norm goes on with its estimate
    if not holds:
        remove_computation(twin)
    if not holds_weight(twin):
        return None
    plain = None if has_stock_forward(twin) else plain_equivalent(twin)
    if plain is None and holds:
        return None
    return (twin if plain is None else plain).train(layer.training)


def remove_computation(layer: nn.Module) -> None:
    """Make torch's own ways to compute a layer's weight permanent, in place."""
    if parametrize.is_parametrized(layer):
        names = cast(nn.ModuleDict, layer.parametrizations)
        values = {name: nn.Parameter(getattr(layer, name).clone()) for name in names}
        # Torch's own removal changes the class, which the layer that this is a copy of has too.
        layer.__class__ = parametrize.type_before_parametrizations(layer)
        del layer.parametrizations
        for name, value in values.items():
            setattr(layer, name, value)
    for hook in list(layer._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(layer, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(layer, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(layer, hook._tensor_name)


def plain_equivalent(layer: WeightedLayer) -> WeightedLayer | None:
    """A copy of a layer, of torch's own class or ``SamePadded``, with the weight that the layer's own forward computes.

    Found by looking at what the forward multiplies random inputs of several sizes with. None where that is the layer's
    own weight, where it depends on the input, and where such a copy gives something else.
    """
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=random).to(layer.weight) for shape in _input_shapes(layer)]
    try:
        with _Products() as products:
            outputs = [layer.forward(given) for given in inputs]
    except (RuntimeError, TypeError, ValueError):  # it wants something else than one such tensor
        return None
    if len(products.operands) != len(inputs):
        return None
    (weight, bias), *others = products.operands
    if weight is layer.weight or weight.shape != layer.weight.shape:
        return None
    if not all(_is_close(weight, other) and _is_close(bias, shift) for other, shift in others):
        return None
    own = next(kind for kind in type(layer).mro() if kind in WEIGHTED_LAYERS)
    for kind in (own, SamePadded) if own is nn.Conv2d else (own,):
        plain = _of_class(kind, layer, weight, bias)
        if all(_is_close(plain.forward(given), output) for given, output in zip(inputs, outputs, strict=True)):
            return plain
    return None


def _input_shapes(layer: WeightedLayer) -> list[tuple[int, ...]]:
    """Shapes of inputs that a layer takes, of several sizes."""
    if isinstance(layer, nn.Linear):
        return [(size, layer.in_features) for size in SIZES]
    reach = [dilation * (kernel - 1) + 1 for dilation, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
    return [(2, layer.in_channels, *(size + each for each in reach)) for size in SIZES]


def _of_class(kind: type, layer: WeightedLayer, weight: torch.Tensor, bias: torch.Tensor | None) -> WeightedLayer:
    """A copy of a layer that is of another class and has no parameters but these; its geometry and hooks stay."""
    plain = copied(layer)
    plain.__class__ = kind
    vars(plain).pop("forward", None)
    for name in {*plain._parameters, *plain._buffers} - {"weight", "bias"}:
        delattr(plain, name)
    # Strides decide which kernels run.
    plain.weight = nn.Parameter(torch.empty_like(layer.weight).copy_(weight), layer.weight.requires_grad)
    plain.bias = None if bias is None else nn.Parameter(bias.clone(), layer.weight.requires_grad)
    return plain


def _is_close(found: torch.Tensor | None, expected: torch.Tensor | None) -> bool:
    """Whether two tensors are the same up to roundings, or neither is there."""
    if found is None or expected is None:
        return found is expected
    largest = expected.abs().max().item()
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * largest)


class _Products(TorchFunctionMode):
    """Records (weight, bias) of every convolution and matrix product with a weight inside."""

    def __init__(self) -> None:
        super().__init__()
        self.operands: list[tuple[torch.Tensor, torch.Tensor | None]] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in PRODUCTS:
            named = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
            self.operands.append((named["weight"], named.get("bias")))
        return function(*args, **kwargs)
