"""A layer as matrix products: the rows of its weight, and the columns of its input that they are multiplied with.

A layer is one product for each of its groups. Where that would have more than ``MOST_INPUTS`` inputs, as the first
Linear layer of a VGG, it is several of equal size, whose sum is the output: second moments take memory by their square.
"""

import copy
from math import ceil, prod

import torch
from torch import nn
from torch.nn import functional

from zeroq.layers import TRANSPOSED, WeightedLayer

# Of one product: 0.5 GiB of second moments in float64.
MOST_INPUTS = 8192


def parts_of_group(layer: WeightedLayer) -> int:
    """The number of products that each group of a layer is; it divides the group's inputs."""
    inputs = _grouped_rows(layer, layer.weight).shape[2]
    return next(parts for parts in range(ceil(inputs / MOST_INPUTS), inputs + 1) if inputs % parts == 0)


def weight_rows(layer: WeightedLayer, weight: torch.Tensor) -> torch.Tensor:
    """A Conv or Linear weight as [products, outputs of a group, inputs times places of the kernel]."""
    rows = _grouped_rows(layer, weight)
    return rows.unflatten(2, (parts_of_group(layer), -1)).transpose(1, 2).flatten(0, 1)


def summed_outputs(layer: WeightedLayer, outputs: torch.Tensor) -> torch.Tensor:
    """The layer's outputs [outputs] of those of its products, [products, outputs of a group]."""
    return outputs.unflatten(0, (-1, parts_of_group(layer))).sum(1).flatten()


def weight_of_rows(layer: WeightedLayer, rows: torch.Tensor) -> torch.Tensor:
    """The weight of which ``weight_rows`` gives these rows."""
    shape = layer.weight.shape
    rows = rows.unflatten(0, (-1, parts_of_group(layer))).transpose(1, 2).flatten(2)
    if isinstance(layer, TRANSPOSED):
        groups, outputs, _ = rows.shape
        return rows.view(groups, outputs, shape[0] // groups, -1).transpose(1, 2).reshape(shape)
    return rows.reshape(shape)


def input_columns(layer: WeightedLayer, values: torch.Tensor) -> torch.Tensor:
    """What each place of a layer's output is made of: [N, products, length of ``weight_rows``, places].

    ``weight_rows`` times these columns, summed by ``summed_outputs``, is the layer's output without its bias. Linear
    layers have a place for each vector or token of an image. A convolution hands its input on through kernels that each
    pick one place, so that its padding, strides and dilation are its own, a subclass's too.
    """
    if isinstance(layer, nn.Linear):
        columns = values.reshape(len(values), -1, values.shape[-1]).transpose(1, 2)
        return columns.unflatten(1, (parts_of_group(layer), -1))
    kernel = layer.weight.shape[2:]
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        # The same, and quicker than a convolution.
        columns = functional.unfold(values, kernel, layer.dilation, layer.padding, layer.stride)
        return columns.unflatten(1, (layer.groups * parts_of_group(layer), -1))
    size = prod(kernel)
    picking = torch.eye(size, dtype=values.dtype, device=values.device).view(size, 1, *kernel)
    probe = copy.copy(layer)
    probe._parameters = dict(layer._parameters)
    shape = (1, size, *kernel) if isinstance(layer, TRANSPOSED) else (size, 1, *kernel)
    channels = values.shape[1]
    probe.weight = nn.Parameter(picking.view(shape).repeat(channels, *(1 for _ in shape[1:])), requires_grad=False)
    probe.bias = None
    probe.groups = probe.in_channels = channels
    probe.out_channels = channels * size
    columns = probe.forward(values).flatten(2)  # hooks are the caller's
    return columns.unflatten(1, (layer.groups * parts_of_group(layer), -1))


def _grouped_rows(layer: WeightedLayer, weight: torch.Tensor) -> torch.Tensor:
    """A weight as [groups, outputs of a group, inputs of a group times places of the kernel]."""
    groups = getattr(layer, "groups", 1)
    if isinstance(layer, TRANSPOSED):
        grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
        return grouped.transpose(1, 2).flatten(2)
    return weight.reshape(groups, weight.shape[0] // groups, -1)
