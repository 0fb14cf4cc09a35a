"""A caller's network: borrow it and give it back exactly as it came, run it, find its BatchNorm layers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeGuard

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.layers import WeightedLayer
from zeroq.memory import is_out_of_memory


class RecordedBatchNorm(nn.Module):
    """What ``holds_statistics`` finds in a module, for annotations alone: no layer inherits from it."""

    running_mean: torch.Tensor
    running_var: torch.Tensor
    eps: float


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every submodule's own mode again outside."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def without_weight_gradients(model: nn.Module) -> Iterator[None]:
    """No parameter takes gradients inside, so that a backward pass computes only the images' own."""
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@contextmanager
def replaced_weight(layer: WeightedLayer, weight: torch.Tensor) -> Iterator[None]:
    """Another weight inside, the very same storage again outside."""
    original = layer.weight.data
    layer.weight.data = weight
    try:
        yield
    finally:
        layer.weight.data = original


@contextmanager
def channels_last(model: nn.Module, input_shape: tuple[int, int, int] | None) -> Iterator[None]:
    """Weights channels-last inside, the faster layout for convolutions; the very same tensors again outside.

    A network that does not run so, as one that flattens maps by ``view``, keeps its layout; so does one of which the
    input's shape (channels, height, width) is not known.
    """
    tensors = [each for each in (*model.parameters(), *model.buffers()) if input_shape and each.dim() == 4]
    originals = [each.data for each in tensors]
    try:
        for each in tensors:
            each.data = each.data.to(memory_format=torch.channels_last)
        if input_shape and tensors and not _runs(model, input_shape):
            for each, original in zip(tensors, originals, strict=True):
                each.data = original
        yield
    finally:
        for each, original in zip(tensors, originals, strict=True):
            each.data = original


def _runs(model: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    # Two images: in any layout the axes of one may be merged.
    images = torch.zeros(2, *input_shape).contiguous(memory_format=torch.channels_last)
    with evaluating(model), torch.no_grad():
        try:
            model(images.to(model_device(model), model_dtype(model)))
        except Exception as error:  # whatever the network's own code objects to
            if is_out_of_memory(error):
                raise
            return False
    return True


def is_channels_last(model: nn.Module) -> bool:
    """Whether every weight [outputs, inputs, height, width] that has several layouts lies channels-last."""
    weights = [each for each in model.parameters() if each.dim() == 4 and not each.is_contiguous()]
    return bool(weights) and all(each.is_contiguous(memory_format=torch.channels_last) for each in weights)


def model_device(model: nn.Module) -> torch.device:
    """The device of the first parameter or buffer (the CPU for a network that has neither)."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def model_dtype(model: nn.Module) -> torch.dtype:
    """The floating-point type of the first parameter (float32 for a network that has none)."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32


def forward(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The network's output, on its own device and in its own floating-point type.

    Raises ZeroQError where the network does not accept images of this shape, or wants more than images.
    """
    try:
        return model(images.to(model_device(model), model_dtype(model)))
    except (RuntimeError, TypeError, ValueError) as error:
        # Out of memory is a RuntimeError too, and a ZeroQError a ValueError; they have nothing to do with the shape.
        if isinstance(error, ZeroQError) or is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise ZeroQError(
            f"the network does not accept images of shape {tuple(images.shape[1:])}: {reason}; "
            f"give images as (channels, height, width) of its input"
        ) from error


def first_argument(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """What a module is called with first, by its place or by keyword."""
    return inputs[0] if inputs else next(iter(named.values()))


def holds_statistics(module: nn.Module | None) -> TypeGuard[RecordedBatchNorm]:
    """Whether a module is a BatchNorm layer with recorded statistics."""
    return getattr(module, "running_mean", None) is not None and getattr(module, "running_var", None) is not None


def batch_norms(model: nn.Module) -> dict[str, RecordedBatchNorm]:
    """Every BatchNorm layer with recorded statistics, by name; a layer used twice is named once.

    Known by what it holds, not by its class: libraries' frozen BatchNorms are no subclasses of torch's. Raises
    ZeroQError for one without ``eps``, which cannot be compared with what it normalises by.
    """
    layers = {name: module for name, module in model.named_modules() if holds_statistics(module)}
    for name, layer in layers.items():
        if not hasattr(layer, "eps"):
            raise ZeroQError(
                f"layer {name!r} ({type(layer).__name__}) holds BatchNorm statistics but no eps; set the one that its "
                f"forward adds to the variance, layer.eps = …"
            )
    return layers
