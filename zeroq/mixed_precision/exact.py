"""Sensitivities by definition: the class scores with one layer quantized against those without."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import nn

from zeroq.images import shape_of
from zeroq.layers import WeightedLayer, channel_axis
from zeroq.mixed_precision.divergence import Direction
from zeroq.mixed_precision.outputs import BY_SHAPE, Reading, class_scores
from zeroq.mixed_precision.suffix import SuffixNetwork
from zeroq.modules import forward, replaced_weight
from zeroq.parallel import all_reduce, shard
from zeroq.quantization.affine import quantized_weights

# Two computations of the same class scores differ by roundings, by less than this share of the largest.
ROUNDINGS = 1e-3
# The share of the memory bound that may hold quantized weights for the next images.
WEIGHTS_SHARE = 0.25
MIB = 2**20


class Variants(Protocol):
    """What sensitivities are of: ``layers`` by name, modules of a network that can be changed one at a time.

    ``variants`` are contexts, one for each of ``widths``, in which a layer computes at that width.
    """

    @property
    def layers(self) -> Mapping[str, nn.Module]: ...

    @property
    def widths(self) -> Sequence[int]: ...

    def variants(self, name: str) -> Sequence[AbstractContextManager[None]]: ...


@dataclass(frozen=True)
class Candidates:
    """``layers`` by name, each at ``widths``; ``granularity`` are keywords of ``quantized_weights``.

    ``rounded``: their weights at each width, where they are not rounded to the nearest.
    """

    layers: Mapping[str, WeightedLayer]
    widths: Sequence[int]
    granularity: Mapping[str, Any]
    rounded: Mapping[str, Sequence[torch.Tensor]] | None = None

    def weights(self, name: str) -> Sequence[torch.Tensor]:
        """A layer's weight at each width."""
        if self.rounded is not None:
            return self.rounded[name]
        layer = self.layers[name]
        return quantized_weights(layer.weight, self.widths, axis=channel_axis(layer), **self.granularity)

    def variants(self, name: str) -> list[AbstractContextManager[None]]:
        """A layer with its weight at each width, while the context lasts."""
        return [replaced_weight(self.layers[name], weight) for weight in self.weights(name)]

    @property
    def bytes(self) -> int:
        """Of all layers' weights at all widths."""
        return len(self.widths) * sum(layer.weight.nbytes for layer in self.layers.values())


@dataclass(frozen=True)
class Portions:
    """How the work is cut to fit into memory.

    ``network`` runs from any layer on; None runs the whole network every time. ``images`` go through it at once.
    ``keep_weights``: quantized weights are kept for the next images.
    """

    network: SuffixNetwork | None
    images: int
    keep_weights: bool = False


def divergences(
    model: nn.Module,
    images: torch.Tensor,
    candidates: Candidates,
    *,
    direction: Direction,
    memory_mib: float,
    on_layer: Callable[[int, int], None],
    reading: Reading = BY_SHAPE,
) -> torch.Tensor:
    """Ω of each layer at each width, float64 [layers, widths] on the CPU, of a network in evaluation mode.

    In a process group each process measures its share of the layers, and receives all values.
    """
    portions = portions_for(model, images, candidates, memory_mib, reading)
    parts = images.split(portions.images)
    if portions.network is None:
        references = [class_scores(model, part, reading) for part in parts]
        sums = with_full_forwards(model, parts, references, candidates, direction, on_layer, reading)
    else:
        # Its own: other roundings than the network's would count as divergence.
        references = [portions.network.scores(part) for part in parts]
        sums = with_suffixes(portions, parts, references, candidates, direction, on_layer, reading)
    return (all_reduce(sums.cpu()) / sum(map(reading.kind.count, references))).clamp_min(0)


def portions_for(
    model: nn.Module,
    images: torch.Tensor,
    candidates: Candidates,
    memory_mib: float,
    reading: Reading = BY_SHAPE,
) -> Portions:
    """The largest portions whose values fit into ``memory_mib``, as one image needs it."""
    whole = Portions(None, len(images))
    first = images[:1]
    try:
        network = SuffixNetwork(model, shape_of(images), reading)
        expected = class_scores(model, first, reading)
        if not is_same(network.scores(first), expected):
            return whole
        kept, run = network.bytes_needed(first)
    except Exception:  # whatever stops a graph, or does not work in parts, works as a whole
        return whole
    # A normalisation over the batch makes each image's scores depend on the others.
    independent = is_same(class_scores(model, images[:2], reading)[:1], expected)
    # The reference's scores, and its logarithms and probabilities in float64, of two outcomes where it is a detector.
    kept += expected.nbytes + 4 * 8 * expected.numel()
    bound = memory_mib * MIB
    if len(images) * (kept + run) <= bound:
        return Portions(network, len(images))
    if not independent:
        return whole
    keep_weights = candidates.bytes <= WEIGHTS_SHARE * bound
    count = int((bound - candidates.bytes * keep_weights) / (kept + run))
    return Portions(network, count, keep_weights=keep_weights) if count else Portions(None, 1)


def is_same(scores: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether scores are those expected, up to roundings."""
    return scores.shape == expected.shape and bool(
        (scores - expected).abs().max() <= ROUNDINGS * expected.abs().max().clamp_min(1)
    )


def with_full_forwards(
    model: nn.Module,
    parts: Sequence[torch.Tensor],
    references: Sequence[torch.Tensor],
    candidates: Variants,
    direction: Direction,
    on_layer: Callable[[int, int], None],
    reading: Reading = BY_SHAPE,
) -> torch.Tensor:
    """Summed divergences, float64 [layers, widths], with one forward of the whole network for each."""
    sums = _zeros(references[0], candidates)
    own = shard(list(enumerate(candidates.layers)))
    for done, (row, name) in enumerate(own, start=1):
        for column, changed in enumerate(candidates.variants(name)):
            with changed:
                for part, reference in zip(parts, references, strict=True):
                    distance = reading.kind.distance(reference, direction)
                    sums[row, column] += distance(reading.scores(forward(model, part)))
        on_layer(done, len(own))
    return sums


def with_suffixes(
    portions: Portions,
    parts: Sequence[torch.Tensor],
    references: Sequence[torch.Tensor],
    candidates: Candidates,
    direction: Direction,
    on_layer: Callable[[int, int], None],
    reading: Reading = BY_SHAPE,
) -> torch.Tensor:
    """Summed divergences, float64 [layers, widths]; what precedes a layer is computed once for each part's images."""
    sums = _zeros(references[0], candidates)
    rows = {name: row for row, name in enumerate(candidates.layers)}
    # Neighbours cost about the same: every nth layer is a fair share.
    own = set(shard(list(rows)))
    kept: dict[str, Sequence[torch.Tensor]] = {}
    network = cast(SuffixNetwork, portions.network)
    for done, (part, reference) in enumerate(zip(parts, references, strict=True)):
        distance = reading.kind.distance(reference, direction)
        for position, (name, scores_with) in enumerate(network.sweep(part)):
            if name not in own:
                continue
            weights = kept.get(name) or candidates.weights(name)
            if portions.keep_weights:
                kept[name] = weights
            for column, weight in enumerate(weights):
                sums[rows[name], column] += distance(scores_with(weight))
            on_layer((done * len(rows) + position + 1) // len(parts), len(rows))
    on_layer(len(rows), len(rows))
    return sums


def _zeros(like: torch.Tensor, candidates: Variants) -> torch.Tensor:
    return like.new_zeros((len(candidates.layers), len(candidates.widths)), dtype=torch.float64)
