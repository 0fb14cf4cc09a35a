"""What Gaussian noise shows of an activation, where nothing can be told of it from statistics."""

from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from zeroq.baselines.moments import Moments


def measured_on_noise(graph: fx.GraphModule, node: fx.Node, noise: torch.Tensor) -> Any:
    """What a node gives for each of the images ``noise`` [N, C, H, W], as moments; one image at a time.

    Several tensors are as many moments, and what is no float tensor is what the first image gives.
    """
    outputs = [tree_flatten(_Listener(graph, node).run(image[None])) for image in noise]
    _, structure = outputs[0]
    return tree_unflatten([_moments(each) for each in zip(*(leaves for leaves, _ in outputs), strict=True)], structure)


class _Listener(fx.Interpreter):
    """Runs a graph and returns what one of its nodes gives."""

    def __init__(self, graph: fx.GraphModule, node: fx.Node):
        super().__init__(graph)
        self._node = node
        self._heard: Any = None

    def run_node(self, node: fx.Node) -> Any:
        output = super().run_node(node)
        if node is self._node:
            self._heard = output
        return output

    def run(self, images: torch.Tensor) -> Any:
        super().run(images)
        return self._heard


def _moments(values: tuple) -> Any:
    first = values[0]
    if not isinstance(first, torch.Tensor) or not first.is_floating_point():
        return first
    alike = torch.stack([each for each in values if each.shape == first.shape])
    return Moments(alike.mean(0), alike.std(0, correction=0), alike.amin(0), alike.amax(0))
