"""A trained network together with the input it was trained on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from zeroq.errors import ZeroQError


@dataclass(frozen=True)
class InputSpecification:
    """What a network expects at its input.

    ``shape`` is (channels, height, width) in pixels. ``mean`` and ``std`` are per channel, for pixel
    values in [0, 1]. ``resize`` is the shorter side in pixels before the centre crop to ``shape``
    (None: the image is resized to ``shape`` directly, nothing is cropped).
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    interpolation: str = "bilinear"


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


@contextmanager
def downloading(weights: str, mend: str = "") -> Iterator[None]:
    """Turn a failed download of named weights into one sentence; ``mend`` says where a file can be put by hand."""
    try:
        yield
    # What urllib, requests, huggingface_hub and pytorchcv raise where nothing answers or the content is not right.
    except (OSError, ValueError, RuntimeError, UserWarning) as error:
        if isinstance(error, ZeroQError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        mend = mend or "connect to the internet once, or give your own file with model.checkpoint=…"
        raise ZeroQError(f"the weights of {weights} could not be downloaded ({reason}); {mend}") from error
