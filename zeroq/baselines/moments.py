"""What BatchNorm's parameters say about every activation: means, standard deviations and ranges, without an image."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import fx, nn

from zeroq.baselines.clipped_normal import clipped_normal_moments
from zeroq.borrowing import copied
from zeroq.errors import ZeroQError
from zeroq.graph.operators import RELUS, called, clamp_ends, kind, operator_of
from zeroq.images import Limits, check_limits
from zeroq.layers import WEIGHTED_LAYERS, is_affine
from zeroq.modules import holds_statistics, model_device, model_dtype

# Standard deviations between a channel's mean and the ends of its range.
DEVIATIONS = 6

# Attributes of a tensor that are no tensors.
SHAPE_ATTRIBUTES = ("shape", "ndim", "device", "dtype")


@dataclass(frozen=True)
class Moments:
    """Of one activation, as tensors of its shape [1, …]: mean, standard deviation, smallest and largest value."""

    mean: torch.Tensor
    std: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def normal(cls, mean: torch.Tensor, std: torch.Tensor) -> "Moments":
        """Of a normal variable, with ends six standard deviations from the mean."""
        return cls(mean, std, mean - DEVIATIONS * std, mean + DEVIATIONS * std)

    def clipped(self, low: float, high: float) -> "Moments":
        """Behind an activation that clips."""
        mean, std = clipped_normal_moments(self.mean, self.std, low, high)
        return Moments(mean, std, self.low.clamp(low, high), self.high.clamp(low, high))

    def times(self, factor: float) -> "Moments":
        """Of a multiple."""
        ends = (factor * self.low, factor * self.high)
        return Moments(factor * self.mean, abs(factor) * self.std, torch.minimum(*ends), torch.maximum(*ends))

    def shifted(self, constant: float | torch.Tensor) -> "Moments":
        """Of the sum with a constant."""
        return Moments(self.mean + constant, self.std, self.low + constant, self.high + constant)

    def plus(self, other: "Moments") -> "Moments":
        """Of the sum of two activations, which are taken as independent."""
        normal = Moments.normal(self.mean + other.mean, (self.std**2 + other.std**2).sqrt())
        low, high = torch.maximum(normal.low, self.low + other.low), torch.minimum(normal.high, self.high + other.high)
        return Moments(normal.mean, normal.std, low, high)


def activation_moments(
    graph: fx.GraphModule, input_shape: tuple[int, int, int], limits: Limits | None = None
) -> tuple[dict[str, list[Moments]], dict[str, list[Moments]]]:
    """What enters each Conv and Linear layer, and what leaves each ReLU module: by name, one entry a call.

    A layer with a folded BatchNorm gives N(β, γ²) in each channel, and ReLU clips it; sums and layers without
    statistics take their inputs as independent. The images have mean 0 and standard deviation 1, and where ``limits``
    are known (the smallest and largest normalised pixel of each channel), these are their ends.

    Raises ZeroQError where a layer sees what an operation gives whose effect is not known.
    """
    propagation = _Propagation(graph)
    image = torch.zeros(1, *input_shape, device=model_device(graph), dtype=model_dtype(graph))
    pixels = Moments.normal(image, torch.ones_like(image))
    lowest, highest = check_limits(limits, image)
    if lowest is not None:
        pixels = Moments(pixels.mean, pixels.std, lowest.expand_as(image)[None, 0], highest.expand_as(image)[None, 0])
    with torch.no_grad():
        propagation.run(pixels)
    return dict(propagation.layer_inputs), dict(propagation.relu_outputs)


@dataclass(frozen=True)
class _Unknown:
    """What an operation gives whose effect on statistics is not known; an error where a layer needs it."""

    error: ZeroQError


class _Propagation(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule):
        super().__init__(graph)
        self.extra_traceback = False  # errors are sentences
        self.layer_inputs: dict[str, list[Moments]] = defaultdict(list)
        self.relu_outputs: dict[str, list[Moments]] = defaultdict(list)

    def run_node(self, node: fx.Node) -> Any:
        arguments, named = self.fetch_args_kwargs_from_env(node)
        found: list[Moments | _Unknown] = []
        fx.node.map_aggregate((arguments, named), lambda value: _gather(value, found))
        if node.op == "output" or not found:
            return super().run_node(node)
        module = called(self.module, node)
        unknown = next((value for value in found if isinstance(value, _Unknown)), None)
        if unknown is not None and isinstance(module, WEIGHTED_LAYERS):
            raise unknown.error
        return unknown or self._known(node, module, found[0], arguments, named)

    def _known(self, node: fx.Node, module: nn.Module | None, given: Moments, arguments: tuple, named: dict) -> Any:
        """What an operation makes of moments, of which ``given`` are the first."""
        what, row = kind(self.module, node), operator_of(self.module, node)
        if isinstance(module, WEIGHTED_LAYERS) and len(arguments) + len(named) == 1 and is_affine(module):
            self.layer_inputs[node.target].append(given)
            return _layer(module, given)
        if module is not None and holds_statistics(module) and type(module).forward is nn.BatchNorm2d.forward:
            like = module(given.mean)
            return Moments.normal(_channels(module.bias, 0, like), _channels(module.weight, 1, like).abs())
        ends = clamp_ends(self.module, node)
        if ends is not None:
            output = given.clipped(*ends)
            if what in RELUS:
                self.relu_outputs[node.target].append(output)
            return output
        if row.adds:
            return _sum(*arguments, **named)
        call = getattr(super(), node.op)
        if row.asks and (what is not getattr or arguments[1] in SHAPE_ATTRIBUTES):
            return call(node.target, *_field(arguments, named, "mean"))
        if row.passes_moments:
            return _of_each(lambda values, options: call(node.target, values, options), arguments, named)
        error = ZeroQError(
            f"DFQ cannot tell what {getattr(what, '__name__', what)} (node {node.name!r}) does to the statistics of "
            f"BatchNorm; take the ranges from images instead, and no analytic bias correction: method zeroq+dfq with "
            f"bias_correction empirical or none"
        )
        if isinstance(module, WEIGHTED_LAYERS):
            raise error
        return _Unknown(error)


def _gather(value: Any, found: list) -> None:
    if isinstance(value, Moments | _Unknown):
        found.append(value)


def _layer(layer: nn.Module, given: Moments) -> Moments:
    """Of a Conv or Linear layer's output: from its BatchNorm, or else from its weights and independent inputs."""
    mean = layer(given.mean)
    if hasattr(layer, "output_mean"):
        return Moments.normal(_channels(layer.output_mean, 0, mean), _channels(layer.output_std, 1, mean))
    squared = copied(layer)
    squared.weight, squared.bias = nn.Parameter(layer.weight.detach() ** 2), None
    return Moments.normal(mean, squared(given.std**2).clamp_min(0).sqrt())


def _channels(values: torch.Tensor | None, default: float, like: torch.Tensor) -> torch.Tensor:
    """One value for each channel, spread over a tensor [1, channels, …] (or [1, channels])."""
    if values is None:
        return torch.full_like(like, default)
    return values.detach().view(1, -1, *(1 for _ in like.shape[2:])).expand_as(like)


def _sum(input: Any, other: Any, *, alpha: float = 1) -> Moments:
    if isinstance(input, Moments) and isinstance(other, Moments):
        return input.plus(other.times(alpha))
    if isinstance(input, Moments):
        return input.shifted(alpha * other)
    return other.times(alpha).shifted(input)


def _of_each(call: Callable, arguments: tuple, named: dict) -> Any:
    results = [call(*_field(arguments, named, field.name)) for field in fields(Moments)]
    if isinstance(results[0], torch.Tensor):
        return Moments(*results)
    return tuple(Moments(*parts) for parts in zip(*results, strict=True))


def _field(arguments: tuple, named: dict, name: str) -> tuple[tuple, dict]:
    return fx.node.map_aggregate(
        (arguments, named), lambda value: getattr(value, name) if isinstance(value, Moments) else value
    )
