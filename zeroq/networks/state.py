"""Borrow a network and give it back exactly as it came."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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
def replaced_weight(layer: nn.Module, weight: torch.Tensor) -> Iterator[None]:
    """Another weight inside, the very same storage again outside."""
    original = layer.weight.data
    layer.weight.data = weight
    try:
        yield
    finally:
        layer.weight.data = original


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
