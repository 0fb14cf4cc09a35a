"""What an operation makes of the moments of activations, by the properties of its operator."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from zeroq.baselines.moments import Moments
from zeroq.baselines.quadrature import moments_of_function
from zeroq.graph.operator_rows import Operator
from zeroq.graph.operators import clamp_ends, kind, operator_of
from zeroq.graph.tracing import operation_of

# Attributes of a tensor that are no tensors.
SHAPE_ATTRIBUTES = ("shape", "ndim", "device", "dtype")
# What a tensor's moments are.
FIELDS = ("mean", "std", "low", "high")


def moments_in(values: Any) -> list[Moments]:
    """All moments among an operation's arguments, in order."""
    found: list[Moments] = []
    fx.node.map_aggregate(values, lambda each: found.append(each) if isinstance(each, Moments) else None)
    return found


def moments_behind(graph: fx.GraphModule, node: fx.Node, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What a node that is no layer and no BatchNorm gives, where some of its arguments' values are moments.

    A function of each value comes from quadrature (a clamp, a multiple or a sum with constants in closed form). Sums
    and products of two activations, and of matrices, take them as independent; means, sums over axes and largest
    values take them as rising and falling alike. Softmax is between 0 and 1, with the deviation of a choice between
    both. None where no rule tells.
    """
    row, call, (given, *others) = operator_of(graph, node), operation_of(graph, node), moments_in((arguments, named))
    if call is None:
        return None
    asks = row.asks and (kind(graph, node) is not getattr or arguments[1] in SHAPE_ATTRIBUTES)
    if row.fills or asks:
        positional, keywords = field((arguments, named), "mean")
        return call(*positional, **keywords)
    ends = clamp_ends(graph, node)
    if ends is not None:
        return _traced_back(given.clipped(*ends), call, arguments, named)
    if others and (row.adds or row.subtracts):
        return _sum(row, *arguments, **named)
    if row.pointwise:
        return _pointwise(row, call, arguments, named)
    if row.passes_moments:
        return _of_each(call, arguments, named)
    if row.weighs:
        positional, keywords = field((arguments, named), "mean")
        mean = call(*positional, **keywords)
        return Moments(mean, (mean * (1 - mean)).sqrt(), torch.zeros_like(mean), torch.ones_like(mean))
    if row.attends:
        return _attention(call, *arguments, **named)
    return _contraction(call, arguments, named) if row.contracts else None


def field(values: Any, name: str) -> Any:
    """An operation's arguments, with one field in the place of moments; a constant has no deviation."""

    def one(value: Any) -> Any:
        if isinstance(value, Moments):
            return getattr(value, name)
        return torch.zeros_like(value) if name == "std" and _is_float(value) else value

    return fx.node.map_aggregate(values, one)


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _of_each(call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    results = []
    for name in FIELDS:
        positional, keywords = field((arguments, named), name)
        results.append(call(*positional, **keywords))
    if isinstance(results[0], torch.Tensor):
        return Moments(*results)
    return tuple(Moments(*parts) for parts in zip(*results, strict=True))


def _pointwise(
    row: Operator, call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> Moments | None:
    found = moments_in((arguments, named))
    alone = len({id(each.origin or each) for each in found}) == 1
    output = None
    if row.adds or row.subtracts:
        output = _sum(row, *arguments, **named)
    elif len(found) == 1 or not alone:
        closed = _product if row.multiplies else _quotient if row.divides else None
        output = closed(*arguments, **named) if closed else None
    return _traced_back(output, call, arguments, named) if alone else output


def _traced_back(
    output: Moments | None, call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
) -> Moments:
    """As a function of the one activation that all arguments are functions of; by quadrature where not known yet."""
    first, *_ = moments_in((arguments, named))
    origin = first.origin or first

    def function(values: torch.Tensor) -> torch.Tensor:
        positional, keywords = fx.node.map_aggregate(
            (arguments, named), lambda each: each.function(values) if isinstance(each, Moments) else each
        )
        return call(*positional, **keywords)

    return replace(output or moments_of_function(function, origin), origin=origin, function=function)


def _sum(row: Operator, input: Any, other: Any, *, alpha: float = 1) -> Moments:
    """Also of the difference."""
    alpha = -alpha if row.subtracts else alpha
    if isinstance(input, Moments) and isinstance(other, Moments):
        return input.plus(other.times(alpha))
    if isinstance(input, Moments):
        return input.shifted(alpha * other)
    return other.times(alpha).shifted(input)


def _product(input: Any, other: Any) -> Moments:
    if isinstance(input, Moments) and isinstance(other, Moments):
        return input.product(other)
    return input.times(other) if isinstance(input, Moments) else other.times(input)


def _quotient(input: Any, other: Any, *, rounding_mode: str | None = None) -> Moments | None:
    if rounding_mode is not None or not isinstance(input, Moments):
        return None
    return (
        input.product(moments_of_function(torch.reciprocal, other))
        if isinstance(other, Moments)
        else input.times(1 / other)
    )


def _attention(
    call: Callable[..., Any], query: Any, key: Any, value: Any, *others: Any, **named: Any
) -> Moments | None:
    """Of means of values with the weights of the mean scores: whatever the weights, it stays within the values."""
    if not isinstance(value, Moments):
        return None
    (query, key, others), named = field(((query, key, others), named), "mean")
    mean, std = call(query, key, value.mean, *others, **named), call(query, key, value.std, *others, **named)
    low, high = value.low.amin(-2, keepdim=True), value.high.amax(-2, keepdim=True)
    return Moments(mean, std, low.expand_as(mean), high.expand_as(mean))


def _contraction(call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Moments | None:
    """Of sums of products of independent values."""
    factors: list[Moments] = []

    def number(value: Any) -> Any:
        if isinstance(value, Moments) or _is_float(value):
            factors.append(value if isinstance(value, Moments) else Moments.constant(value))
        return value

    fx.node.map_aggregate((arguments, named), number)
    if len(factors) != 2:
        return None

    def contracted(*values: torch.Tensor) -> torch.Tensor:
        left = iter(values)
        positional, keywords = fx.node.map_aggregate(
            (arguments, named), lambda each: next(left) if isinstance(each, Moments) or _is_float(each) else each
        )
        return call(*positional, **keywords)

    one, other = factors
    mean = contracted(one.mean, other.mean)
    variance = contracted(one.std**2, other.std**2 + other.mean**2) + contracted(one.mean**2, other.std**2)
    return Moments.normal(mean, variance.sqrt())
