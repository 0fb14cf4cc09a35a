"""Sensitivities by definition: the class scores with one layer quantized, against those without."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import nn

from zeroq.networks.state import replaced_weight
from zeroq.precision.divergence import Direction, class_scores, scores_of, summed_divergence
from zeroq.precision.suffix import SuffixNetwork
from zeroq.quantization.layers import channel_axis
from zeroq.quantization.affine import quantized_weights

MIB = 2**20
# Of the largest class score: further apart are not roundings, but another function.
SAME = 1e-3
# The share of the memory bound that quantized weights may take, to be there for the next images again.
WEIGHTS_SHARE = 0.25


@dataclass(frozen=True)
class Measurement:
    """What is to be measured: ``layers`` by name, each at ``widths``; ``granularity`` are keywords of quantizers."""

    layers: Mapping[str, nn.Module]
    widths: Sequence[int]
    direction: Direction
    granularity: Mapping[str, bool]

    def weights(self, name: str) -> list[torch.Tensor]:
        """A layer's weight at each width."""
        layer = self.layers[name]
        return quantized_weights(layer.weight, self.widths, axis=channel_axis(layer), **self.granularity)


def by_suffixes(
    model: nn.Module,
    images: torch.Tensor,
    wanted: Measurement,
    *,
    memory_mib: float,
    on_layer: Callable[[int, int], None],
) -> torch.Tensor | None:
    ...
