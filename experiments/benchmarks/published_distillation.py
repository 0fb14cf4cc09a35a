"""Distillation as it was published, to time others against.

Written from the description in section 3.1 of the paper and of what the published program does with it. Nothing is done
for speed: weights keep their gradients, hooks on every convolution and BatchNorm keep their features, features are in
PyTorch's usual layout, and each loss is read as soon as it is there.
"""

import torch
from torch import nn

from zeroq.images import UNIFORM_LIMIT
from zeroq.modules import batch_norms, evaluating, model_device

ITERATIONS = 500
# Under every root, whatever a layer's own eps.
EPS = 1e-6


def distill_as_published(
    model: nn.Module, input_shape: tuple[int, int, int], count: int = 32, iterations: int = ITERATIONS, *, seed: int = 0
) -> torch.Tensor:
    """Images of the published recipe, [count, channels, height, width]; the weights' gradients are left cleared."""
    device = model_device(model)
    generator = torch.Generator().manual_seed(seed)
    noise = UNIFORM_LIMIT * (2 * torch.rand(count, *input_shape, generator=generator) - 1)
    images = noise.to(device).requires_grad_()
    optimizer = torch.optim.Adam([images], lr=0.5)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, min_lr=1e-4, patience=100)
    norms = batch_norms(model)
    seen: dict[nn.Module, torch.Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda layer, inputs, output: seen.update({layer: output}))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    hooks += [
        norm.register_forward_hook(lambda layer, inputs, output: seen.update({layer: inputs[0]}))
        for norm in norms.values()
    ]
    zeros, ones = torch.zeros(input_shape[0], device=device), torch.ones(input_shape[0], device=device)
    with evaluating(model):
        for _ in range(iterations):
            optimizer.zero_grad()
            model.zero_grad()
            seen.clear()
            model(images)
            loss = distance(images, zeros, ones)
            for norm in norms.values():
                target = (norm.running_var + EPS).sqrt()
                loss = loss + distance(seen[norm], norm.running_mean, target)
            loss.backward()
            optimizer.step()
            schedule.step(loss.item())
    model.zero_grad()
    for hook in hooks:
        hook.remove()
    return images.detach()


def distance(features: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """One term of Eq. 3, averaged over the images."""
    places = features.flatten(2)
    squares = (places.mean(2) - mean).square() + ((places.var(2) + EPS).sqrt() - std).square()
    return squares.sum() / len(features)
