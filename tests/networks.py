"""Networks that are not the zoo's."""

import torch
from torch import nn
from torch.nn import functional
from torchvision import models

from zeroq.networks.narrow import narrow


class Block(nn.Module):
    """Functional relu, a ModuleList and one convolution used twice."""

    def __init__(self, channels: int):
        super().__init__()
        self.shared = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])

    def forward(self, x):
        for norm in self.norms:
            x = functional.relu(norm(self.shared(x))) + x
        return x


class SubclassedConv(nn.Conv2d):
    """A convolution with a forward of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


class HandWritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = SubclassedConv(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList([Block(8), Block(8)])
        self.again = self.blocks[0]
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = functional.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(self.again(x).mean((2, 3)))


def narrow_resnet10() -> nn.Module:
    """An untrained ResNet for photographs with 1.2 million weights."""
    return narrow(models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1]), 2, in_channels=3, classes=1000)


def estimate_statistics(model: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """Give a network with random weights the BatchNorm statistics of smooth random images."""
    generator = torch.Generator().manual_seed(1)
    model.train()
    with torch.no_grad():
        for _ in range(20):
            coarse = torch.randn(16, shape[0], shape[1] // 4, shape[2] // 4, generator=generator)
            model(functional.interpolate(coarse, shape[1:], mode="bilinear"))
    return model.eval()


def normal_chain(activation: nn.Module, groups: int = 1, padding: int = 0) -> nn.Sequential:
    """A network whose BatchNorm output is N(β, γ²) in each channel for images that are white noise."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(4, 4, 1, bias=False)
    convolution.weight.data = torch.eye(4)[..., None, None]
    norm = nn.BatchNorm2d(4, eps=0)
    norm.bias.data = torch.tensor([-1.0, 0.5, 5.0, 20.0])
    norm.weight.data = torch.tensor([1.0, -2.0, 0.7, 3.0])
    second = nn.Conv2d(4, 8, 3, groups=groups, padding=padding)
    return nn.Sequential(convolution, norm, activation, second).eval()


def photographs(size: int) -> torch.Tensor:
    """16 images of so many pixels [16, 3, size, size], correlated over places as photographs are."""
    noise = torch.randn(16, 3, size + 2, size + 2, generator=torch.Generator().manual_seed(3))
    return nn.functional.avg_pool2d(noise, 3, stride=1) * 3


def outputs(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = network(images)
    if isinstance(found, dict):
        return torch.cat([found[key].flatten() for key in ("cls_logits", "bbox_regression")])
    return found


def assert_equal_outputs(network: nn.Module, images: torch.Tensor, expected: torch.Tensor) -> None:
    assert torch.allclose(outputs(network, images), expected, rtol=0, atol=1e-4 * max(1, expected.abs().max().item()))
