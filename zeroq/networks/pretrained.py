"""A trained network together with the input it was trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from zeroq.errors import ZeroQError


def check_normalisation(name: str, values: Sequence[float], channels: int, *, positive: bool) -> None:
    """Raise ZeroQError unless ``values``, of the option ``name``, are a number a channel, above 0 where they divide."""
    if len(values) != channels or (positive and min(values) <= 0):
        above = " above 0" if positive else ""
        raise ZeroQError(f"{name} is a number{above} for each of the {channels} channels, not {values}")


@dataclass(frozen=True)
class InputSpecification:
    """What a network expects at its input.

    ``shape`` is (channels, height, width) in pixels. ``mean`` and ``std`` are per channel, for pixel
    values in [0, 1]. ``resize`` is the shorter side in pixels before the centre crop to ``shape``, or (height,
    width) where the sides' ratio is not kept (None: the image is resized to ``shape`` directly, nothing is cropped).
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"

    @property
    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The normalised values of a black and of a white pixel, per channel."""
        channels = list(zip(self.mean, self.std, strict=True))
        return tuple(-mean / std for mean, std in channels), tuple((1 - mean) / std for mean, std in channels)


@dataclass(frozen=True)
class PretrainedNetwork:
    """A network in evaluation mode and its input specification.

    ``detector`` is None for a classifier. For a detector it puts pre- and post-processing around ``module``, or
    around its quantized copy: a list of float images [C, H, W] in [0, 1] → a dict of boxes, labels and scores each.
    """

    module: nn.Module
    input: InputSpecification
    detector: Callable[[nn.Module], nn.Module] | None = None

    @property
    def task(self) -> str:
        """``classification`` or ``detection``."""
        return "classification" if self.detector is None else "detection"
