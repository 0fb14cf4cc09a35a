"""This project's own methods, every layer in one width, with the images that the others get or their own recipe's."""

import torch
from torch import nn

from zeroq.distillation.recipe import recipe_by_name
from zeroq.methods import method_by_name
from zeroq.networks.pretrained import PretrainedNetwork
from zeroq.zero_shot import zero_shot_quantize


def quantize(
    module: nn.Module, images: torch.Tensor, weight_bits: int, activation_bits: int, *, method: str
) -> nn.Module:
    """A network of one width by a method's own settings."""
    shape = tuple(images.shape[1:])
    return zero_shot_quantize(module, shape, weight_bits, activation_bits, False, method=method, images=images).model


def generate(network: PretrainedNetwork, count: int, *, seed: int, method: str) -> torch.Tensor:
    """Images [count, C, H, W] by the recipe of ``zeroq+`` with its defaults, between black and white."""
    recipe = recipe_by_name(method_by_name(method).recipe)
    return recipe.distil(network.module, network.input.shape, count, seed=seed, limits=network.input.limits)
