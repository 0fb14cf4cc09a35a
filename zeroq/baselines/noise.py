"""What Gaussian noise shows of an activation, where nothing can be told of it from statistics."""

from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from zeroq.baselines.moments import Moments


class NoiseRun:
    """A graph that is run on the images ``noise`` [N, C, H, W], one image at a time, as far as it is looked at."""

    def __init__(self, graph: fx.GraphModule, noise: torch.Tensor):
        self._left = iter(graph.graph.nodes)
        self._runs = [fx.Interpreter(graph) for _ in noise]
        for run, image in zip(self._runs, noise, strict=True):
            run.extra_traceback = False
            run.args_iter = iter([image[None]])

    def moments(self, node: fx.Node) -> Any:
        """Of what a node gives, which stands behind all that were asked for before.

        Several tensors are as many moments, and what is no float tensor is what the first image gives.
        """
        for each in self._left:
            outputs = [_step(run, each) for run in self._runs]
            if each is node:
                break
        _, structure = tree_flatten(outputs[0])
        leaves = zip(*(tree_flatten(output)[0] for output in outputs), strict=True)
        return tree_unflatten([_moments(values) for values in leaves], structure)


def _step(run: fx.Interpreter, node: fx.Node) -> Any:
    """Run the next node, and forget what no later one uses."""
    output = run.env[node] = run.run_node(node)
    for used in run.user_to_last_uses.get(node, []):
        del run.env[used]
    return output


def _moments(values: tuple[Any, ...]) -> Any:
    first = values[0]
    if not isinstance(first, torch.Tensor) or not first.is_floating_point():
        return first
    alike = torch.stack([each for each in values if each.shape == first.shape])
    return Moments(alike.mean(0), alike.std(0, correction=0), alike.amin(0), alike.amax(0))
