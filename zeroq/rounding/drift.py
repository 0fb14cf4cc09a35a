"""The mean error that quantized activations make, corrected as far as images can tell it."""

from collections.abc import Mapping

import torch
from torch import nn

from zeroq.layers import WeightedLayer, with_batch
from zeroq.quantization.bias_correction import shift_biases

# What a layer's statistics are off by on the images stands for all that is not known of real ones.
CAUTION = 2.0


def correct_drift(
    quantized: nn.Module, model: nn.Module, images: torch.Tensor, mismatch: Mapping[str, float]
) -> dict[str, float]:
    """Shift the bias of every layer by a part of its mean error on the images, and give each layer's part (0…1).

    The part is m² / (m² + v + 2 · mismatch · σ²), summed over channels: the mean error's square m² (less its sampling
    variance), the variance v of errors from image to image, and the variance σ² of the layer's output. It is the
    factor that errs least for one more image (Wiener), were the images the network's own; that they are not is added
    as if errors varied by so much more. A mean that a few images agree on is corrected almost fully, one that comes
    from what they show is not: a classifier's scores, or the last maps of a network whose statistics the images miss.

    Args:
        quantized: a calibrated copy of ``model`` with float weights; it is changed in place.
        model: the float network.
        images: float [N, C, H, W], normalised.
        mismatch: of each layer, from ``statistics_mismatch``.

    Raises ZeroQError as ``correct_biases`` does, which corrects all of it.
    """
    parts: dict[str, float] = {}

    def change(name: str, expected: list[torch.Tensor], found: list[torch.Tensor]) -> torch.Tensor:
        means, squares = torch.cat(expected, 1)
        errors = means - torch.cat(found, 1)[0]
        mean = errors.mean(0)
        parts[name] = 0.0
        if len(errors) > 1:  # one image does not tell how much errors vary
            variance = errors.var(0).sum()
            known = (mean.square().sum() - variance / len(errors)).clamp_min(0)
            spread = (squares.mean(0) - means.mean(0).square()).clamp_min(0).sum()
            unknown = variance + CAUTION * mismatch[name] * spread
            parts[name] = (known / (known + unknown)).nan_to_num(0).item()  # 0 / 0 where nothing errs
        return parts[name] * mean

    shift_biases(quantized, model, images, means_and_squares, change)
    return parts


def means_and_squares(layer: WeightedLayer, output: torch.Tensor) -> torch.Tensor:
    """Each image's mean and mean square of each channel of a layer's output: float64 [2, N, channels]."""
    values = with_batch(layer, output).double()
    values = values.unsqueeze(1).flatten(1, -2) if isinstance(layer, nn.Linear) else values.flatten(2).transpose(1, 2)
    return torch.stack([values.mean(1), values.square().mean(1)])
