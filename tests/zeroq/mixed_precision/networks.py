"""Networks whose layers are hard to take one by one."""

import torch
from torch import nn
from torch.nn import functional

from tests.networks import estimate_statistics


class Awkward(nn.Module):
    """Works in place on what is still needed, drops out, uses a layer twice and a weight outside its layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.twice, self.side = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.tied = nn.Conv2d(8, 8, 1)
        self.tied.weight = self.side.weight
        self.never = nn.Conv2d(8, 8, 1)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, 5)

    def forward(self, x, temperature: float = 1.0):
        x = self.norm(self.stem(x))
        y = functional.relu(self.twice(x), inplace=True)
        x.mul_(0.5)
        x += self.side(y)
        x.relu_()
        y = self.tied(self.twice(x))
        y += functional.conv2d(x, self.side.weight)
        return self.head(self.drop((x + y).mean((2, 3)))) / temperature


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, stride=2))
        self.classes, self.boxes = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        maps = self.body(x)
        return {
            "cls_logits": self.classes(maps).flatten(2).transpose(1, 2),
            "bbox_regression": self.boxes(maps).flatten(2).transpose(1, 2),
        }


class Branching(nn.Module):
    """Asks for a value, so that it cannot be traced."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        x = self.first(x).mean((2, 3))
        return self.head(x) if x.sum() > 0 else self.head(-x)


class OverTheBatch(nn.Module):
    """Each image's scores depend on the others."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(functional.relu(self.norm(self.first(x))).mean((2, 3)))


def network(kind: type) -> nn.Module:
    torch.manual_seed(0)
    return estimate_statistics(kind(), (3, 16, 16))
