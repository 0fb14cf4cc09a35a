"""Weights at several widths, and the sensitivities that are measured with them."""

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics, photographs
from zeroq.layers import weighted_layers
from zeroq.quantization.affine import quantized_weight
from zeroq.rounding.candidates import compensated_weights


@pytest.fixture(scope="module")
def chain() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        layer
        for channels in (3, 8)
        for layer in (nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    ]
    return estimate_statistics(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)), (3, 8, 8)
    )


@pytest.fixture
def photos() -> torch.Tensor:
    return photographs(8)


@pytest.mark.parametrize(("per_channel", "symmetric"), [(True, False), (True, True), (False, False)])
def test_each_width_is_what_rounding_that_layer_alone_gives(chain, photos, per_channel, symmetric):
    how = {"per_channel": per_channel, "symmetric": symmetric}
    weights = compensated_weights(chain, photos, (2, 3, 8), **how)
    assert weights.keys() == weighted_layers(chain).keys()
    for name in weights:
        for bits, weight in zip((2, 3, 8), weights[name], strict=True):
            plan = {other: bits if other == name else 32 for other in weights}
            alone = zeroq.quantize(chain, plan, 32, rounding="compensated", images=photos, **how)
            torch.testing.assert_close(weight, alone.get_submodule(name).weight.detach(), rtol=0, atol=1e-6)


class Changing(nn.Module):
    """A layer that is called twice, whose first input is changed behind it, in place or as a copy."""

    def __init__(self, inplace: bool):
        super().__init__()
        self.first, self.norm, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace)
        self.twice, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 5)

    def forward(self, images):
        features = self.norm(self.first(images))
        return self.head((self.twice(features) + self.twice(self.relu(features))).mean((2, 3)))


def test_inputs_are_what_they_were_when_a_layer_saw_them(photos):
    torch.manual_seed(0)
    model = estimate_statistics(Changing(inplace=False), (3, 8, 8))
    other = Changing(inplace=True).eval()
    other.load_state_dict(model.state_dict())
    expected, found = (compensated_weights(network, photos, (3,))["twice"][0] for network in (model, other))
    assert torch.equal(found, expected)
    plan = {"first": 32, "twice": 3, "head": 32}
    how = {"rounding": "compensated", "images": photos}
    one, two = (zeroq.quantize(network, plan, 32, **how).twice.weight for network in (model, other))
    assert torch.equal(one, two)


def test_what_cannot_be_compensated_is_rounded_to_the_nearest(hand_written, images):
    weights = compensated_weights(hand_written, images, (3,))
    assert torch.equal(weights["stem"][0], quantized_weight(hand_written.stem.weight, 3))  # doubles its output
    assert not torch.equal(weights["head"][0], quantized_weight(hand_written.head.weight, 3))


@pytest.mark.parametrize("mode", ["exact", "estimated"])
def test_compensated_layers_are_less_sensitive(chain, photos, mode):
    nearest, compensated = (
        zeroq.sensitivity(chain, photos, (2, 3, 8), mode=mode, rounding=rounding)
        for rounding in ("nearest", "compensated")
    )
    assert compensated.to_numpy().sum() < nearest.to_numpy().sum()
    assert (compensated[3] <= compensated[2]).all()


def test_the_sensitivity_is_by_definition(chain, photos):
    omega = zeroq.sensitivity(chain, photos, (3,), rounding="compensated")
    rounded_on, measured_on = photos[::2], photos[1::2]
    reference = chain(measured_on).double().log_softmax(1)
    for name in omega.index:
        plan = {other: 3 if other == name else 32 for other in omega.index}
        how = {"rounding": "compensated", "images": rounded_on}
        changed = zeroq.quantize(chain, 32, 32)
        changed.get_submodule(name).weight = zeroq.quantize(chain, plan, 32, **how).get_submodule(name).weight
        other = changed(measured_on).double().log_softmax(1)
        expected = (reference.exp() * (reference - other)).sum(1).mean().item()
        assert omega.loc[name, 3] == pytest.approx(expected, rel=1e-3, abs=1e-7)
    with pytest.raises(zeroq.ZeroQError, match="rounding must be one of"):
        zeroq.sensitivity(chain, photos, rounding="best")
