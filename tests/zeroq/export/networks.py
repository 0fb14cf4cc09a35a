"""A network with all that an export meets, and how its outputs are compared."""

import torch
from torch import nn

import zeroq


class Residual(nn.Module):
    """Convolutions behind each other, a sum, a pool, two outputs."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.branch = nn.Sequential(
            *(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16)),
        )
        self.pool, self.head = nn.AvgPool2d(2), nn.Linear(16, 5)

    def forward(self, images):
        features = self.stem(images)
        features = self.pool(torch.relu(features + self.branch(features)))
        return {"scores": self.head(features.mean((2, 3))), "maps": [features]}


def calibrated(model: nn.Module, images: torch.Tensor, bits: int | dict = 8, activation_bits: int = 8, **words):
    quantized = zeroq.quantize(model, bits, activation_bits, **words)
    zeroq.calibrate(quantized, images)
    return quantized


def steps(expected: torch.Tensor, found: torch.Tensor, bits: int = 8) -> float:
    """The largest difference in units of the outputs' own grid."""
    return ((expected - found).abs().max() / (expected.max() - expected.min()) * (2**bits - 1)).item()
