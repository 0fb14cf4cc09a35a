"""The quantizer of one activation tensor: records a range over calibration images, then applies it."""

from typing import Any

import numpy
import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.graph.tracers import Leaf
from zeroq.quantization.affine import AffineParameters, affine_parameters, check_bits, fake_quantize


class NotCalibratedError(ZeroQError):
    """A quantizer without a range was asked to quantize."""


class ActivationQuantizer(nn.Module, Leaf):
    """Per-tensor asymmetric quantization of whatever passes through.

    A quantizer is *dynamic* (each batch's own min–max, the naive baseline) or waits for calibration: between
    ``start_recording`` and ``freeze`` it widens its range, and passes values through or quantizes them with the range
    so far; afterwards it quantizes with that range. ``scale``, ``zero_point`` and ``bits`` are buffers, so a state dict
    carries them; scale is NaN until the range is known.
    """

    bits: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, bits: float, *, dynamic: bool = False, device: torch.device | None = None):
        super().__init__()
        self.dynamic = dynamic
        self.register_buffer("bits", torch.tensor(bits, dtype=torch.int32, device=device))
        self.register_buffer("scale", torch.tensor(float("nan"), device=device))
        self.register_buffer("zero_point", torch.tensor(0, dtype=torch.int32, device=device))
        self._recording = self._quantizing = False
        self._percentile: float | None = None
        self._range: tuple[torch.Tensor, torch.Tensor] | None = None
        self._read_buffers()

    @property
    def calibrated(self) -> bool:
        """Whether values can be quantized."""
        return self.dynamic or self._known

    @property
    def recorded_finite(self) -> bool:
        """Whether everything recorded so far is finite."""
        return self._range is None or bool(torch.stack(self._range).isfinite().all())

    def set_bits(self, bits: int) -> None:
        """Quantize to another width, 2…8; the range is forgotten, since its scale was of the width before."""
        check_bits(bits)
        self.bits.fill_(bits)
        self.scale.fill_(float("nan"))
        self.zero_point.zero_()
        self._read_buffers()

    def start_recording(self, percentile: float | None, *, quantizing: bool = False) -> None:
        """Forget the range and record a new one from what passes through, or is quantized meanwhile."""
        self._recording, self._quantizing = True, quantizing
        self._percentile, self._range = percentile, None

    def stop_recording(self) -> None:
        """End recording and keep the parameters from before."""
        self._recording, self._range = False, None

    def freeze(self) -> None:
        """Turn the recorded range into scale and zero point; where nothing passed through, there is none."""
        recorded = self._range
        self.stop_recording()
        if recorded is None:
            self._known = False
            self.scale.fill_(float("nan"))
            return
        self.set_parameters(affine_parameters(*recorded, self._bits))

    def set_parameters(self, parameters: AffineParameters) -> None:
        """Quantize with this scale and zero point from now on."""
        self._known = True
        self.scale.copy_(parameters.scale)
        self.zero_point.copy_(parameters.zero_point)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not isinstance(values, torch.Tensor) or not values.is_floating_point():  # indices, or several tensors
            return values
        if not values.numel():  # of a part of the network that is called with no image at all
            return values
        if self._recording:
            low, high = self._record(values.detach())
            return fake_quantize(values, affine_parameters(low, high, self._bits)) if self._quantizing else values
        if self.dynamic:
            low, high = values.detach().aminmax()
            return fake_quantize(values, affine_parameters(low, high, self._bits))
        if not self._known:
            raise NotCalibratedError(
                "an activation quantizer has no range yet; call zeroq.calibrate(quantized, images) first, "
                "with images that reach every layer"
            )
        return fake_quantize(values, AffineParameters(self.scale, self.zero_point, 0, 2**self._bits - 1))

    def extra_repr(self) -> str:
        known = f"scale={self.scale.item():.4g}, zero_point={self.zero_point.item()}" if self._known else "no range"
        return f"bits={self._bits}, {'dynamic' if self.dynamic else known}"

    def _record(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._percentile is None:
            low, high = values.aminmax()
        else:
            tails = [100 - self._percentile, self._percentile]
            low, high = values.new_tensor(numpy.percentile(values.float().cpu().numpy(), tails))
        if self._range is not None:  # a shared module sees several tensors
            low, high = torch.minimum(low, self._range[0]), torch.maximum(high, self._range[1])
        self._range = (low, high)
        return low, high

    def _read_buffers(self) -> None:
        # Plain Python copies: reading a buffer in every forward would synchronise a GPU.
        self._bits = int(self.bits)
        self._known = not bool(self.scale.isnan())

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._read_buffers()
