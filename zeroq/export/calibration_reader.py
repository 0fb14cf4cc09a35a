"""Calibration images as onnxruntime's quantizer takes them."""

from pathlib import Path

import numpy
import torch

from zeroq.errors import ZeroQError
from zeroq.export.calibration_set import read_calibration_set
from zeroq.export.extra import imported_from_extra
from zeroq.images import check_images

with imported_from_extra():
    from onnxruntime.quantization import CalibrationDataReader


class CalibrationReader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """For ``onnxruntime.quantization.quantize_static``: images in batches, under the name of the network's input.

    ``images`` is float [N, C, H, W], or a folder from ``export_calibration_set``.
    """

    def __init__(self, images: torch.Tensor | Path | str, input_name: str = "images", batch_size: int = 1):
        self.images = images if isinstance(images, torch.Tensor) else read_calibration_set(images)
        check_images(self.images)
        if batch_size < 1:
            raise ZeroQError(f"batch_size is a number of images, not {batch_size}")
        self.input_name, self.batch_size = input_name, batch_size
        self.rewind()

    def get_next(self) -> dict[str, numpy.ndarray] | None:
        """The next batch, None behind the last."""
        batch = next(self._batches, None)
        return None if batch is None else {self.input_name: batch.detach().float().cpu().numpy()}

    def rewind(self) -> None:
        """Start again with the first batch."""
        self._batches = iter(self.images.split(self.batch_size))
