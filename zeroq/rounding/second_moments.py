"""What a layer sees of images: the second moments of its inputs, and how far they may be trusted."""

from collections.abc import Sequence
from math import ceil, frexp, isfinite, sqrt
from typing import cast

import torch

from zeroq.errors import ZeroQError
from zeroq.layers import WeightedLayer, with_batch
from zeroq.rounding.columns import input_columns
from zeroq.rounding.gram import DenseGram, Gram, LowRankGram

# An image counts as one independent sample, however many places it has; fewer images are cut into so many parts.
FEWEST_SAMPLES = 8
# Places of an input over all images that are looked at, for each of a column's values: more are all but the same.
PLACES = 20
FEWEST_PLACES = 16
# Of the inputs' number: the matrix of so many places is worth keeping as their columns. Above, it is quicker as it is.
LOW_RANK = 1 / 2


class SecondMoments:
    """Second moments of a layer's input columns over images.

    ``gram`` is the mean over places of columns times themselves, in squares of ``unit``, a power of two near the
    largest input, so that neither large nor tiny inputs leave float32; ``column``, float64 [groups, inputs], is the
    mean column. ``shrunk`` is what a rounding should believe of them. ``samples`` images, or parts of few images, count
    as independent.
    """

    def __init__(self, layer: WeightedLayer, inputs: Sequence[torch.Tensor]):
        """``inputs`` are what the layer is called with, none of them empty. Raises ZeroQError for values not finite."""
        inputs = [with_batch(layer, values) for values in inputs]
        images = sum(len(values) for values in inputs)
        parts = ceil(FEWEST_SAMPLES / images)
        generator = torch.Generator().manual_seed(0)
        self.samples = 0
        self._few: list[torch.Tensor] = []
        self._total: torch.Tensor | None = None
        self.column = self._squares = self._diagonal_squares = torch.zeros(())
        largest = torch.stack([values.abs().max().float() for values in inputs]).max().item()
        if not isfinite(largest):
            raise ZeroQError(
                "its inputs are NaN or infinite: the images are far out of the network's range, or its weights are "
                "damaged"
            )
        self.unit = 2.0 ** frexp(largest)[1]
        for image in (image for values in inputs for image in values.split(1)):
            columns = input_columns(layer, image.float())[0]
            self.column = self.column + columns.mean(2).double() / images
            columns = columns / self.unit
            _, size, places = columns.shape
            wanted = max(FEWEST_PLACES, ceil(PLACES * size / images))
            if wanted < places:
                chosen = torch.randperm(places, generator=generator)[:wanted].sort().values
                columns = columns[:, :, chosen.to(columns.device)]
            for sample in columns.tensor_split(min(parts, columns.shape[2]), dim=2):
                self._add(sample / sqrt(sample.shape[2]))
        self.gram = self._mean()

    def _add(self, columns: torch.Tensor) -> None:
        """Add a sample's moments X Xᵀ, and the sum of their squares, which is that of Xᵀ X as well."""
        _, inputs, places = columns.shape
        if places < inputs:
            between = columns.mT @ columns
            self._few.append(columns)
        else:
            between = columns @ columns.mT
            self._total = between if self._total is None else self._total.add_(between)
        self._squares = self._squares + between.double().square().sum((1, 2))
        self._diagonal_squares = self._diagonal_squares + columns.double().square().sum(2).square().sum(1)
        self.samples += 1
        if sum(sample.shape[2] for sample in self._few) > inputs:
            self._sum_up()

    def _sum_up(self) -> None:
        """Add the columns that are kept to the total."""
        columns = torch.cat(self._few, dim=2)
        self._few = []
        product = columns @ columns.mT
        self._total = product if self._total is None else self._total.add_(product)

    def _mean(self) -> Gram:
        """Of the samples' moments, as columns where those are few."""
        if self._total is None:
            columns = torch.cat(self._few, dim=2)
            _, inputs, places = columns.shape
            if places <= LOW_RANK * inputs:
                own = columns.new_zeros(columns.shape[:2], dtype=torch.float64)
                return LowRankGram(columns / sqrt(self.samples), own)
        if self._few:
            self._sum_up()
        return DenseGram(cast(torch.Tensor, self._total).double().div_(self.samples))

    def shrunk(self, mismatch: float = 0.0) -> tuple[Gram, float]:
        """The moments with correlations shrunk towards none, positive definite, and by how much (mean over groups).

        What is taken away is the sampling variance of all correlations as a share of their squares, estimated from how
        much independent samples differ: 0 for infinitely many samples, 1 where there is nothing but chance, as for
        white noise or a single sample. Every input gets the mean moment over the number of samples on top, and the
        share ``mismatch`` of it, by which the images are not what the network knows (``statistics_mismatch``).
        Source: Schäfer and Strimmer 2005 (target D), after Ledoit and Wolf 2004.
        """
        diagonal = self.gram.diagonal
        correlations = self.gram.sum_of_squares() - diagonal.square().sum(1)
        # Of the mean over samples: the samples' mean square less the mean's square, over one less than their number.
        mean_squares = (self._squares - self._diagonal_squares) / self.samples
        variance = (mean_squares - correlations).clamp_min(0) / max(self.samples - 1, 1)
        share = torch.ones_like(variance)
        if self.samples > 1:
            # And as much again as the estimate's standard error, so that chance is not taken for structure.
            variance = variance * (1 + sqrt(2 / (self.samples - 1)))
            share = torch.where(correlations > 0, variance / correlations, share).clamp(0, 1)
        # An input that none of the samples reaches may still be reached by the next one.
        level = diagonal.mean(1, keepdim=True)
        floor = torch.where(level > 0, level * (1 / self.samples + mismatch), torch.ones_like(level))
        return self.gram.shrunk(1 - share, floor), share.mean().item()
