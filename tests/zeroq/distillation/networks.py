"""Networks that record statistics in every way there is."""

import torch
from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from tests.networks import HandWritten


class Tokens(nn.Module):
    """BatchNorm1d over vectors and over tokens, InstanceNorm with statistics, BatchNorm3d, one of its own kind."""

    def __init__(self):
        super().__init__()
        self.volume, self.instance = nn.BatchNorm3d(3), nn.InstanceNorm2d(3, track_running_stats=True)
        self.tokens, self.vector = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        for layer in (self.volume, self.instance, self.tokens, self.vector):
            layer.running_mean.normal_()
            layer.running_var.uniform_(1, 4)

    def forward(self, x):
        x = self.instance(self.volume(x.unsqueeze(2)).squeeze(2))
        tokens = x.flatten(2).transpose(1, 2)
        x = self.tokens(tokens.flatten(0, 1)).view_as(tokens)
        return self.vector(x.mean(1))


class Views(nn.Module):
    """A network that does not take its features channels-last."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.vector = nn.BatchNorm1d(4 * 64)

    def forward(self, x):
        return self.vector(functional.relu_(self.norm(self.convolution(x))).view(len(x), -1))


class Named(nn.Module):
    """A BatchNorm called with a keyword, one that no image reaches, and a head that fails where it is reached."""

    def __init__(self):
        super().__init__()
        self.norm, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.norm(input=x)
        if torch.is_grad_enabled():
            raise AssertionError("behind the last BatchNorm")
        return x


def frozen() -> nn.Module:
    norms = FrozenBatchNorm2d(4, eps=0.0), FrozenBatchNorm2d(4)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"), norms[0], nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), norms[1]
    )


NETWORKS = {
    "hand-written": HandWritten,
    "frozen": frozen,
    "with activation": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, dilation=2, padding=(1, 2), bias=False),
        BatchNormAct2d(6),
        nn.Conv2d(6, 6, 3, groups=2, padding=1),
        nn.BatchNorm2d(6, affine=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 1),
        BatchNormAct2d(4),
    ),
    "plain": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    ),
    "one by one": lambda: nn.Sequential(nn.Conv2d(3, 4, 16), nn.BatchNorm2d(4)),
    "every kind": Tokens,
    "views": Views,
    "named": Named,
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = NETWORKS[name]()
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 4)
    return model.eval()
