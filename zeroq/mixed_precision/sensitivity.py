"""How much the output moves when the weights of one layer alone are quantized (Ω, section 3.2)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import pandas
import torch
from torch import nn

from zeroq.borrowing import borrows, copied
from zeroq.errors import ZeroQError
from zeroq.images import check_images
from zeroq.layers import weighted_layers
from zeroq.mixed_precision.divergence import Direction, check_direction
from zeroq.mixed_precision.estimated import coarse, estimates, extrapolated
from zeroq.mixed_precision.exact import Candidates, divergences
from zeroq.mixed_precision.outputs import NOT_FINITE, Output, Reading, reading_of
from zeroq.modules import evaluating, model_device, model_dtype
from zeroq.parallel import on_devices
from zeroq.quantization.affine import (
    LARGEST_BITS,
    SMALLEST_BITS,
    Granularity,
    WeightRange,
    check_finite,
    check_weight_range,
)
from zeroq.quantization.permanent_weights import with_permanent_weights
from zeroq.rounding.candidates import compensated_weights
from zeroq.rounding.quantize import Rounding, check_rounding

Mode = Literal["exact", "estimated"]


class SensitivityTable(pandas.DataFrame):
    """Layer name × bits → KL in nats, with the number of weights of each layer in ``parameters``."""

    _metadata: ClassVar = ["parameters"]
    parameters: dict[str, int]

    @property
    def _constructor(self) -> "type[SensitivityTable]":
        return SensitivityTable

    @classmethod
    def of(cls, values: pandas.DataFrame, parameters: dict[str, int]) -> "SensitivityTable":
        """A table of given values; ``parameters`` counts the weights of each layer."""
        table = cls(values)
        table.index.name, table.columns.name = "layer", "bits"
        table.parameters = dict(parameters)
        return table

    def to_plain(self) -> dict[str, Any]:
        """Lists and dicts that ``from_plain`` turns into an equal table."""
        return {
            "layers": list(self.index),
            "bits": [int(bits) for bits in self.columns],
            "values": self.to_numpy().tolist(),
            "parameters": dict(self.parameters),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "SensitivityTable":
        """The table that ``to_plain`` described."""
        values = pandas.DataFrame(plain["values"], index=plain["layers"], columns=plain["bits"])
        return cls.of(values, plain["parameters"])


@borrows
def sensitivity(
    model: nn.Module,
    images: torch.Tensor,
    bits: Sequence[int] = (2, 4, 8),
    *,
    direction: Direction = "forward",
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    mode: Mode = "exact",
    rounding: Rounding = "nearest",
    output: Output = None,
    memory_mib: float = 1024,
    devices: Sequence[str] = (),
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> SensitivityTable:
    """Measure Ω_i(k), the mean over images of KL(softmax M(x) ‖ softmax M_i,k(x)), for every layer and width.

    M_i,k quantizes only layer i's weights, to k bits. Everything else stays float. For other outputs than class
    scores [N, classes] the distance is another (``zeroq.mixed_precision.outputs``).

    Args:
        model: a classifier with outputs [N, classes], or [N, classes, H, W] for each pixel, a detector whose outputs
            hold ``cls_logits`` [N, anchors, classes], or another network whose ``output`` is told, in any mode, on any
            device; left as it came.
        images: float [N, C, H, W], normalised.
        bits: candidate widths, any subset of 2…8.
        direction: ``forward`` as above, or ``symmetric`` (the mean of both directions).
        mode: ``exact`` measures what the definition says; ``estimated`` takes it to second order, at a cost that does
            not grow with layers times widths (``zeroq.mixed_precision.estimated``), and is the same in both directions.
        memory_mib: a bound in MiB on what flows through the network at once in ``exact`` mode, if the network can be
            traced; below what all images need, they go through in portions, and below what one needs, layer by layer
            through the whole network.
        devices: several GPUs, such as ``("cuda:0", "cuda:1")``, share the layers in ``exact`` mode, each in a process
            of its own; without them everything happens where the network is.
        rounding: of the layer's weights. Compensated ones are rounded for the float network's inputs under every other
            image, and measured on the rest: a layer whose errors make up for each other needs fewer bits. They stand
            for learned ones too, which start from them and take minutes.
        output: what is compared of the network's output: None where class scores are found by themselves, the key,
            position or function of the output that gives them, ``scores`` for logits that look like probabilities, or
            ``values`` (``zeroq.mixed_precision.outputs``). With ``devices``, a function that can be pickled.
        per_channel, symmetric, weight_range: as in ``quantize``.
        on_layer: receives (layers done, layers in all), unless several devices share them.

    Raises:
        ZeroQError: bits, images, direction, mode, output or memory out of range, nothing to compare in the network's
            output.
    """
    check_images(images)
    candidates = check_candidates(bits)
    check_direction(direction)
    check_mode(mode)
    check_rounding(rounding)
    check_weight_range(weight_range, symmetric=symmetric)
    if not memory_mib > 0:
        raise ZeroQError(f"memory_mib is a bound in MiB and must be positive, not {memory_mib}")
    model = with_permanent_weights(model)
    layers = weighted_layers(model)
    if not layers:
        raise ZeroQError("the network has no Conv or Linear layer, so there is no sensitivity to measure")
    images = images.detach().to(model_device(model), model_dtype(model))
    reading = reading_of(model, images, output)  # what a network cannot do is said of the network, not of a part of it
    how: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    measurement = Measurement(candidates, mode, direction, memory_mib, rounding, how, reading)
    if len(devices) < 2:
        values = measurement.values(model, images, on_layer)
    else:
        values = on_devices(devices, measure_on, measurement, copied(model).cpu(), images.cpu())
    if not values.isfinite().all():
        raise ZeroQError(NOT_FINITE)
    table = pandas.DataFrame(values.numpy(), index=list(layers), columns=list(candidates))
    return SensitivityTable.of(table, {name: layer.weight.numel() for name, layer in layers.items()})


@dataclass(frozen=True)
class Measurement:
    """What ``sensitivity`` is told, but for the network and the images."""

    widths: Sequence[int]
    mode: Mode
    direction: Direction
    memory_mib: float
    rounding: Rounding
    granularity: Granularity
    reading: Reading

    def values(
        self, model: nn.Module, images: torch.Tensor, on_layer: Callable[[int, int], None] = lambda done, total: None
    ) -> torch.Tensor:
        """Ω, float64 [layers, widths] on the CPU."""
        granularity = self.granularity
        candidates = Candidates(weighted_layers(model), self.widths, granularity)
        check_finite(layer.weight for layer in candidates.layers.values())
        estimated = self.mode == "estimated"
        if self.rounding != "nearest":
            if estimated:
                candidates = replace(candidates, widths=coarse(self.widths))
            # On the images that they are rounded on, weights err less than on any others.
            rounded = compensated_weights(model, images[::2], candidates.widths, refined=not estimated, **granularity)
            candidates = replace(candidates, rounded=rounded)
            images = images[1::2] if len(images) > 1 else images
        with evaluating(model), torch.no_grad():
            if estimated:
                values = estimates(model, images, candidates, on_layer=on_layer, reading=self.reading)
                return extrapolated(values, candidates.widths, self.widths, symmetric=granularity["symmetric"])
            how: dict[str, Any] = {"direction": self.direction, "memory_mib": self.memory_mib, "reading": self.reading}
            return divergences(model, images, candidates, on_layer=on_layer, **how)


def measure_on(device: str, measurement: Measurement, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """A process's share of the values, and all of them in the end."""
    return measurement.values(model.to(device), images.to(device))


def check_mode(mode: str) -> None:
    """Raise ZeroQError for a way to get sensitivities that does not exist."""
    if mode not in get_args(Mode):
        raise ZeroQError(f"sensitivities are {' or '.join(get_args(Mode))}, not {mode!r}")


def check_candidates(bits: Sequence[int]) -> tuple[int, ...]:
    """The candidate widths in ascending order; raises ZeroQError unless each is 2…8."""
    allowed = range(SMALLEST_BITS, LARGEST_BITS + 1)
    if not isinstance(bits, Iterable) or not (candidates := tuple(sorted(set(bits)))) or set(candidates) - set(allowed):
        raise ZeroQError(f"candidate bits must be a list of widths in {SMALLEST_BITS}…{LARGEST_BITS}, not {bits}")
    return candidates
