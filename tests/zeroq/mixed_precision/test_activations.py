"""Sensitivities of activations against networks in which only one quantizer is left."""

import copy

import pytest
import torch
from scipy.stats import entropy
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from tests.zeroq.mixed_precision.networks import Awkward, Detector, network
from zeroq.mixed_precision.activations import activation_sensitivity
from zeroq.quantization.convert import quantizer_places
from zeroq.quantization.operations import activation_elements
from zeroq.rounding.activation_ranges import narrow_ranges


def with_one(model: nn.Module, images: torch.Tensor, place: str, bits: int, placement: str, clipped: bool):
    """The network with one quantizer, whose range is that of a network where all have this width."""
    quantized = zeroq.quantize(model, 32, bits, placement)
    zeroq.calibrate(quantized, images)
    if clipped:
        narrow_ranges(quantized, model, images)
    only = dict.fromkeys(quantizer_places(quantized), 32) | {place: bits}
    alone = zeroq.quantize(model, 32, only, placement)
    state = quantized.state_dict()
    alone.load_state_dict({name: state[name] for name in alone.state_dict()})
    return alone


@pytest.mark.parametrize(
    ("placement", "clipped"),
    [("layer_inputs", False), ("layer_inputs", True), ("after_relu", False), ("integer", False)],
)
def test_exact_ones_are_those_of_the_definition(placement, clipped, images):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5))
    model = estimate_statistics(model, (3, 16, 16))
    before = copy.deepcopy(model.state_dict())
    omega = activation_sensitivity(model, images, (2, 5), placement=placement, clipped=clipped)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for place in omega.index:
        for bits in omega.columns:
            alone = with_one(model, images, place, bits, placement, clipped)
            with torch.no_grad():
                expected, found = (each(images).double().softmax(1).numpy() for each in (model, alone))
            assert omega.loc[place, bits] == pytest.approx(entropy(expected, found, axis=1).mean(), rel=1e-3, abs=1e-9)
    assert (omega[5] < omega[2]).all()
    quantized = zeroq.quantize(model, 32, 8, placement)
    zeroq.calibrate(quantized, images)
    assert omega.parameters == activation_elements(quantized, images)


def test_an_activation_that_nothing_depends_on_and_one_that_no_image_reaches(images):
    omega = activation_sensitivity(network(Detector), images, (4, 8))
    assert (omega.loc["boxes"] == 0).all()
    assert (omega.drop("boxes") > 0).all(axis=None)
    awkward = activation_sensitivity(network(Awkward), images, (4, 8))
    assert (awkward.loc["never"] == 0).all()
    assert awkward.parameters["never"] == 0


@pytest.mark.parametrize("kind", ["hand_written", "awkward"])
def test_estimated_ones_are_close_where_the_change_is_small(kind, hand_written, images):
    model = hand_written if kind == "hand_written" else network(Awkward)
    exact = activation_sensitivity(model, images, (6, 8))
    estimated = activation_sensitivity(model, images, (6, 8), mode="estimated")
    reached = exact.index[(exact > 0).all(axis=1)]
    ratio = estimated.loc[reached, 8] / exact.loc[reached, 8]
    # Sixteen random directions of χ² with few degrees of freedom; over all activations that averages out.
    assert ratio.between(0.25, 4).all()
    assert 0.6 < ratio.mean() < 1.6


def test_their_mean_over_values_keeps_a_budget(hand_written, images):
    omega = activation_sensitivity(hand_written, images, range(2, 9))
    plan = zeroq.allocate(omega, average_bits=5)
    total = sum(omega.parameters.values())
    assert sum(omega.parameters[place] * bits for place, bits in plan.items()) <= 5 * total
    zeroq.calibrate(zeroq.quantize(hand_written, 4, plan), images)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bits": (1, 4)}, "candidate bits"),
        ({"placement": "everywhere"}, "placement must be"),
        ({"percentile": 20}, "percentile must be"),
        ({"direction": "backward"}, "direction must be"),
        ({"mode": "guessed"}, "sensitivities are"),
    ],
)
def test_wrong_arguments(hand_written, images, wrong, message):
    with pytest.raises(zeroq.ZeroQError, match=message):
        activation_sensitivity(hand_written, images, **wrong)
