"""How far images may be trusted: whether the network sees them as it saw its training data."""

from contextlib import ExitStack
from math import isfinite

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.layers import weighted_layers
from zeroq.modules import RecordedBatchNorm, batch_norms, evaluating, first_argument, forward


def statistics_mismatch(model: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """By Conv or Linear layer, how far its output's statistics under the images are from those of the training data.

    Where a BatchNorm follows directly, it recorded these: ((mean − μ)² + (deviation − σ)²) / σ², averaged over
    channels; 0 where all match, 1 where they are off by as much as the output varies. A layer that none follows gets
    the mean of the others, and 0 where there are none.

    Args:
        model: the float network; left as it came.
        images: float [N, C, H, W], normalised.

    Raises ZeroQError for a BatchNorm without ``eps``, for statistics that are not finite, and for images that the
    network does not accept.
    """
    latest: dict[int, tuple[str, torch.Tensor]] = {}  # the output itself keeps its address from being used again
    found: dict[str, float] = {}

    def remember(name: str, output: torch.Tensor) -> None:
        latest.clear()
        latest[id(output)] = (name, output)

    def compare(norm: RecordedBatchNorm, features: torch.Tensor) -> None:
        name, _ = latest.get(id(features), (None, None))
        if name is None or features.dim() < 2:
            return
        axes = (0, *range(2, features.dim()))
        variance, mean = torch.var_mean(features.float(), axes, correction=0)
        target = norm.running_var.float() + norm.eps
        distance = (mean - norm.running_mean.float()).square() + (variance.sqrt() - target.sqrt()).square()
        # A channel that is constant in training says nothing of its scale.
        share = distance / target.clamp_min(target.mean() * torch.finfo(torch.float32).eps)
        found[name] = share.clamp_max(1).mean().item()
        if not isfinite(found[name]):
            raise ZeroQError(
                f"the BatchNorm behind {name!r} sees or holds NaN or infinite values: the network is damaged, or the "
                f"images are far out of its range"
            )

    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for name, layer in weighted_layers(model).items():
            hook = lambda layer, inputs, output, name=name: remember(name, output)  # noqa: E731
            hooks.enter_context(layer.register_forward_hook(hook))
        for norm in batch_norms(model).values():
            before = lambda norm, inputs, named: compare(norm, first_argument(inputs, named))  # noqa: E731
            hooks.enter_context(norm.register_forward_pre_hook(before, with_kwargs=True))
        forward(model, images)
    rest = sum(found.values()) / len(found) if found else 0.0
    return {name: found.get(name, rest) for name in weighted_layers(model)}
