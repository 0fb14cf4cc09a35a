"""Small networks of every kind of part, drawn at random: branches, statements in place, pools, resizes, masks."""

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tests.networks import estimate_statistics

CHANNELS, SIDE = 8, 14
ACTIVATIONS = {
    "relu": nn.ReLU(),
    "relu in place": nn.ReLU(inplace=True),
    "relu6": nn.ReLU6(),
    "leaky": nn.LeakyReLU(0.1),
    "prelu": nn.PReLU(CHANNELS),
    "hardtanh": nn.Hardtanh(-1, 1),
    "silu in place": nn.SiLU(inplace=True),
    "hard swish": nn.Hardswish(),
    "gelu": nn.GELU(),
    "elu": nn.ELU(),
    "sigmoid": nn.Sigmoid(),
    "nothing": nn.Identity(),
    "dropout": nn.Dropout(),
}
POOLS = st.one_of(
    st.builds(
        nn.AvgPool2d,
        st.integers(2, 3),
        st.integers(1, 2),
        st.integers(0, 1),
        ceil_mode=st.booleans(),
        count_include_pad=st.booleans(),
    ),
    st.builds(nn.MaxPool2d, st.integers(2, 3), st.integers(1, 2), st.integers(0, 1), ceil_mode=st.booleans()),
    st.builds(nn.AdaptiveAvgPool2d, st.integers(1, 5)),
    st.builds(nn.AdaptiveMaxPool2d, st.integers(1, 5)),
)
MODES = st.sampled_from(["nearest", "nearest-exact", "bilinear", "bicubic", "area"])
RESIZES = st.one_of(
    st.builds(nn.Upsample, size=st.integers(3, 17), mode=MODES),
    st.builds(nn.Upsample, scale_factor=st.sampled_from([0.5, 1.3, 1.5, 2]), mode=MODES),
)


class Convolution(nn.Module):
    """A layer, BatchNorm or not, an activation; some channels dead."""

    def __init__(self, layer: nn.Module, norm: bool, activation: str, dead: bool, twice: bool):
        super().__init__()
        self.layer, self.activation, self.twice = layer, ACTIVATIONS[activation], twice
        self.norm = nn.BatchNorm2d(CHANNELS) if norm else nn.Identity()
        self.dead = dead

    def kill(self) -> None:
        """All weights of an output 0, or BatchNorm's γ, with a bias that something follows from."""
        if self.dead and isinstance(self.norm, nn.BatchNorm2d):
            self.norm.weight.data[0], self.norm.bias.data[0] = 0, 0.5
        elif self.dead and isinstance(self.layer, nn.Conv2d):
            self.layer.weight.data[0] = 0

    def forward(self, x):
        x = self.activation(self.norm(self.layer(x)))
        return self.activation(self.layer(x)) if self.twice else x


class Along(nn.Module):
    """A convolution along the one axis that is left when rows are taken together."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, x):
        return x + self.layer(x.mean(2)).unsqueeze(2)


class Statement(nn.Module):
    """A statement that changes a tensor in place, or another use of one."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind, self.layer = kind, nn.Conv2d(CHANNELS, CHANNELS, 1)

    def forward(self, x):
        y = self.layer(x)
        if self.kind == "add_":
            y.add_(x)
        elif self.kind == "+=":
            kept = [y]
            y += x
            y = kept[0]
        elif self.kind == "relu_":
            torch.relu_(y)
            y = y + x
        elif self.kind == "where":
            y = torch.where(y > 0, y, 0.1 * y)
        elif self.kind == "mask":
            y = y * (y > 0)
        elif self.kind == "masked_fill":
            y = y.masked_fill(y < 0, 0.0)
        elif self.kind == "cat":
            y = torch.cat([y, x], 1)[:, ::2]
        elif self.kind == "chunk":
            one, other = y.chunk(2, 1)
            y = torch.cat([one * torch.sigmoid(other), other], 1)
        elif self.kind == "softmax":
            y = x * torch.softmax(y, 1)
        elif self.kind == "normalised":
            y = (y - y.mean((2, 3), keepdim=True)) / (y.std((2, 3), keepdim=True) + 1e-3)
        elif self.kind == "squeezed":
            y = x * torch.sigmoid(functional.adaptive_avg_pool2d(y, 1))
        elif self.kind == "sizes":
            y = y + x[:, :, : x.shape[2]] * 0.5
        elif self.kind == "argmax":
            y = y + x.argmax(1, keepdim=True) / 8
        elif self.kind == "shuffled":
            y = y.view(y.shape[0], 2, CHANNELS // 2, *y.shape[2:]).transpose(1, 2).reshape(y.shape)
        return y


STATEMENTS = (
    *("add_", "+=", "relu_", "where", "mask", "masked_fill", "cat", "chunk", "softmax", "normalised", "squeezed"),
    *("sizes", "argmax", "shuffled"),
)
LAYERS = st.one_of(
    st.builds(
        lambda side, groups, dilation, stride, mode, bias: nn.Conv2d(
            *(CHANNELS, CHANNELS, side, stride, dilation * (side // 2), dilation, groups), bias, mode
        ),
        st.sampled_from([1, 3]),
        st.sampled_from([1, 2, 8]),
        st.sampled_from([1, 2]),
        st.sampled_from([1, 1, 2]),
        st.sampled_from(["zeros", "zeros", "reflect", "replicate", "circular"]),
        st.booleans(),
    ),
    st.builds(lambda stride: nn.ConvTranspose2d(CHANNELS, CHANNELS, 2, stride), st.sampled_from([1, 2])),
)
PARTS = st.one_of(
    st.builds(Convolution, LAYERS, st.booleans(), st.sampled_from(sorted(ACTIVATIONS)), st.booleans(), st.booleans()),
    st.builds(Statement, st.sampled_from(STATEMENTS)),
    st.builds(Along),
    POOLS,
    RESIZES,
)


class RandomNetwork(nn.Module):
    """Parts one after the other, and one of three heads."""

    def __init__(self, parts: list[nn.Module], head: str):
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.parts = nn.ModuleList(parts)
        self.head = nn.Conv2d(CHANNELS, 5, 1) if head == "convolution" else nn.Linear(CHANNELS, 5)
        self.other = nn.Linear(CHANNELS, 5) if head == "two" else None

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for part in self.parts:
            x = part(x)
        if isinstance(self.head, nn.Conv2d):
            return self.head(functional.adaptive_avg_pool2d(x, 1)).flatten(1)
        x = x.mean((2, 3))
        return self.head(x) if self.other is None else (self.head(x) + self.other(x)) / 2


@st.composite
def networks(draw) -> nn.Module:
    """A network for images [3, 14, 14], with estimated statistics."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    parts = draw(st.lists(PARTS, min_size=1, max_size=4))
    network = RandomNetwork(parts, draw(st.sampled_from(["linear", "convolution", "two"])))
    try:
        estimate_statistics(network, (3, SIDE, SIDE))
        with torch.no_grad():
            network(torch.randn(2, 3, SIDE, SIDE))
    except (RuntimeError, ValueError):  # maps too small for a kernel
        from hypothesis import reject

        reject()
    for module in network.modules():
        if isinstance(module, Convolution):
            module.kill()
    return network
