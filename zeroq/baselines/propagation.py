"""What BatchNorm's parameters say about every activation: means, standard deviations and ranges, without an image."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from zeroq.baselines.moments import Moments
from zeroq.baselines.noise import NoiseRun
from zeroq.baselines.normalized_moments import normalized_moments
from zeroq.baselines.operation_moments import moments_behind, moments_in
from zeroq.borrowing import copied
from zeroq.graph.operators import RELUS, called, name_of
from zeroq.images import Limits, check_limits, gaussian_images
from zeroq.layers import WEIGHTED_LAYERS, is_affine, weighted_layer
from zeroq.modules import model_device, model_dtype

# Of which what enters or leaves is asked for.
WATCHED = (*WEIGHTED_LAYERS, *RELUS)
# Images of noise, where an operation has no rule.
NOISE = 8


def activation_moments(
    graph: fx.GraphModule, input_shape: tuple[int, int, int], limits: Limits | None = None
) -> tuple[dict[str, list[Moments]], dict[str, list[Moments]]]:
    """What enters each Conv and Linear layer, and what leaves each ReLU module: by name, one entry a call.

    What normalizes gives N(β, γ²) (``normalized_moments``), layers without statistics take their inputs as independent,
    and ``operation_moments`` has the rules for all else. The images have mean 0 and standard deviation 1, and where
    ``limits`` are known (the smallest and largest normalised pixel of each channel), these are their ends. What an
    operation without a rule gives is measured on a few such images, and named in ``measured`` of all that follows.
    """
    image = torch.zeros(1, *input_shape, device=model_device(graph), dtype=model_dtype(graph))
    pixels = Moments.normal(image, torch.ones_like(image))
    noise = gaussian_images(input_shape, NOISE).to(image)
    lowest, highest = check_limits(limits, image)
    if lowest is not None and highest is not None:
        pixels = replace(pixels, low=lowest.expand_as(image)[None, 0], high=highest.expand_as(image)[None, 0])
        noise = noise.clamp(lowest, highest)
    propagation = _Propagation(graph, noise)
    with torch.no_grad():
        propagation.run(pixels)
    return dict(propagation.layer_inputs), dict(propagation.relu_outputs)


class _Propagation(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule, noise: torch.Tensor):
        super().__init__(graph)
        self.extra_traceback = False  # errors are sentences
        self._graph = graph
        self.layer_inputs: dict[str, list[Moments]] = defaultdict(list)
        self.relu_outputs: dict[str, list[Moments]] = defaultdict(list)
        self._noise = NoiseRun(graph, noise)
        self._needed = _needed(graph)
        self._measured: dict[fx.Node, frozenset[str]] = defaultdict(frozenset)

    def run_node(self, node: fx.Node) -> Any:
        if node.op in ("placeholder", "get_attr"):
            return super().run_node(node)
        if node not in self._needed:
            return None
        arguments, named = self.fetch_args_kwargs_from_env(node)
        module = called(self._graph, node)
        if isinstance(module, WATCHED):  # what is the same for every image may enter it, too
            arguments, named = fx.node.map_aggregate((arguments, named), _as_moments)
        measured = frozenset().union(*(self._measured[each] for each in node.all_input_nodes))
        found = moments_in((arguments, named))
        if not found:
            self._measured[node] = measured
            return super().run_node(node)
        if isinstance(module, WEIGHTED_LAYERS):
            self.layer_inputs[name_of(node)].append(_record(found[0], measured))
        output = _attempt(normalized_moments, self._graph, node, arguments, named)
        if output is not None:
            measured = frozenset()
        else:
            rule = _layer_moments if isinstance(module, WEIGHTED_LAYERS) else moments_behind
            output = _attempt(rule, self._graph, node, arguments, named)
        if output is None:
            output, measured = self._noise.moments(node), measured | {node.name}
        self._measured[node] = measured
        if isinstance(module, RELUS):
            self.relu_outputs[name_of(node)].append(_record(output, measured))
        return output


def _needed(graph: fx.GraphModule) -> set[fx.Node]:
    """The nodes that have a say in what is asked for."""
    needed: set[fx.Node] = set()
    for node in reversed(graph.graph.nodes):
        if isinstance(called(graph, node), WATCHED) or any(user in needed for user in node.users):
            needed.add(node)
    return needed


def _as_moments(value: Any) -> Any:
    return Moments.constant(value) if isinstance(value, torch.Tensor) else value


def _record(seen: Moments, measured: frozenset[str]) -> Moments:
    return Moments(seen.mean, seen.std, seen.low, seen.high, measured=measured)


def _attempt(
    rule: Callable[..., Any], graph: fx.GraphModule, node: fx.Node, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Any:
    """What a node gives by a rule; None where it has none for it, or no numbers come of it."""
    try:
        output = rule(graph, node, arguments, named)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # the node itself runs, so that what does not is the rule
        return None
    return output if all(each.finite for each in moments_in(output)) else None


def _layer_moments(
    graph: fx.GraphModule, node: fx.Node, arguments: tuple[Any, ...], named: dict[str, Any]
) -> Moments | None:
    """Of a Conv or Linear layer's output without statistics: from its weights and independent inputs."""
    layer, (given, *others) = weighted_layer(graph, name_of(node)), (*arguments, *named.values())
    if others or not is_affine(layer):
        return None
    squared = copied(layer)
    squared.weight, squared.bias = nn.Parameter(layer.weight.detach() ** 2), None
    return Moments.normal(layer(given.mean), squared(given.std**2).clamp_min(0).sqrt())
