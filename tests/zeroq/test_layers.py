"""Which layers do what their weight and bias say, and nothing else."""

import pytest
from timm.layers import Conv2dSame, StdConv2d
from torch import nn
from torch.nn import functional

from tests.networks import SubclassedConv
from zeroq.layers import is_affine


@pytest.mark.parametrize(
    ("layer", "affine"),
    [
        (nn.Conv2d(4, 6, 3, groups=2), True),
        (Conv2dSame(4, 6, 3, stride=2), True),  # pads by itself
        (Conv2dSame(4, 6, 3, bias=False, dilation=2), True),
        (StdConv2d(4, 6, 3), False),  # standardizes its weight
        (SubclassedConv(4, 6, 3), False),  # doubles its bias
    ],
)
def test_which_layers_do_what_their_weights_say(layer, affine):
    assert is_affine(layer) == affine


class Bent(nn.Linear):
    """With an activation inside."""

    def forward(self, x):
        return functional.silu(super().forward(x))


class Rectifying(nn.Conv2d):
    """With an activation before."""

    def forward(self, x):
        return super().forward(x.relu())


class Flipping(nn.Conv2d):
    """Takes its channels in another order."""

    def forward(self, x):
        return super().forward(x.flip(1))


class Shrinking(nn.Conv2d):
    """Scales its input."""

    def forward(self, x):
        return super().forward(0.1 * x)


class Standardizing(nn.Conv2d):
    """With a forward that is torch's, and another convolution in it."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


def hooked() -> nn.Module:
    layer = nn.Conv2d(3, 4, 1)
    layer.register_forward_hook(lambda layer, inputs, output: output.relu())
    return layer


def with_forward_of_its_own() -> nn.Module:
    layer = nn.Conv2d(3, 4, 1)
    layer.forward = lambda x: nn.Conv2d.forward(layer, x).relu()
    return layer


def test_a_layer_that_does_more_than_its_weight_says_is_not_affine():
    assert is_affine(nn.Linear(3, 4))
    others = [kind(3, 4, 1) for kind in (Rectifying, Flipping, Shrinking, Standardizing)]
    for layer in (Bent(3, 4), *others, hooked(), with_forward_of_its_own()):
        assert not is_affine(layer), layer
