"""Moments that a network's own parameters say, whatever is normalized: N(β, γ²)."""

from typing import Any

import torch
from torch import fx, nn

from zeroq.baselines.moments import Moments
from zeroq.graph.folding import is_batch_norm
from zeroq.graph.operators import called, operator_of
from zeroq.modules import first_argument, holds_statistics

IDLE = nn.Identity()


def normalized_moments(
    graph: fx.GraphModule, node: fx.Node, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Moments | None:
    """Of what leaves a layer with a folded BatchNorm, a BatchNorm, a LayerNorm, RMSNorm, GroupNorm or InstanceNorm.

    Of the last four each channel or feature is taken to have the mean 0 and the deviation 1 that all of them have
    together. None of any other node, of which the parameters alone do not say it.
    """
    module, row, given = called(graph, node), operator_of(graph, node), first_argument(arguments, named)
    if module is not None and hasattr(module, "output_mean"):
        return _normal(module.get_buffer("output_mean"), module.get_buffer("output_std"), module(given.mean))
    if not row.normalizes and not _is_plain_batch_norm(module, given):
        return None
    if module is None:
        parameters = dict(zip(row.options, arguments[1:], strict=False)) | named
    else:
        parameters = {name: getattr(module, name, None) for name in ("weight", "bias")}
    over_channels = row.normalizes != "last"
    return _normal(parameters.get("bias"), parameters.get("weight"), given.mean, over_channels=over_channels)


def _is_plain_batch_norm(module: nn.Module | None, given: Moments) -> bool:
    """Whether a module is a BatchNorm without an activation of its own."""
    if module is None or not holds_statistics(module) or not isinstance(getattr(module, "act", IDLE), nn.Identity):
        return False
    return is_batch_norm(module, given.mean.dim() - 2)


def _normal(
    mean: torch.Tensor | None, std: torch.Tensor | None, like: torch.Tensor, *, over_channels: bool = True
) -> Moments:
    """N(0, 1) where nothing else is given, one for each channel (axis 1) or along the last axes of ``like``."""

    def spread(values: torch.Tensor | None, default: float) -> torch.Tensor:
        if values is None:
            return torch.full_like(like, default)
        values = values.detach()
        return (values.view(1, -1, *(1 for _ in like.shape[2:])) if over_channels else values).expand_as(like)

    return Moments.normal(spread(mean, 0), spread(std, 1).abs())
