"""What a budget of seconds buys."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import zeroq
from tests.networks import estimate_statistics
from zeroq import work
from zeroq.distillation.recipe import Distillation
from zeroq.work import LADDER, Costs, Work, places_of_layers, shares_of_size, work_within

NATURAL = Distillation("natural")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return estimate_statistics(nn.Sequential(*layers, nn.Linear(8, 5)), (3, 16, 16))


@pytest.fixture
def costs(monkeypatch) -> Costs:
    """Of a machine that takes a second for each image and iteration of the whole size."""
    costs = Costs(iteration={0.5: 0.25, 1: 1.0}, forward={0.5: 0.0, 1: 0.0}, rounding=lambda share, count: 5.0)
    monkeypatch.setattr(work, "costs_of", lambda *_, **__: costs)
    return costs


def test_more_seconds_buy_more_work_and_what_is_bought_fits(costs):
    bought = []
    for seconds in (1e-3, 40, 110, 250, 520, 2100, 6100, 1e6):
        distillation, report = work_within(seconds, None, (3, 224, 160), NATURAL, rounds=True)
        chosen = Work(**report["work"])
        assert (distillation.count, distillation.iterations) == (chosen.count, chosen.iterations)
        assert distillation.size == (None if chosen.share == 1 else (112, 80))
        assert costs.seconds(chosen) <= 0.8 * seconds or chosen == LADDER[0]
        if report["next_work"] is not None:
            following = dict(report["next_work"])
            assert following.pop("seconds") == costs.seconds(Work(**following)) > 0.8 * (seconds - 1)
        bought.append(LADDER.index(chosen))
    assert bought == sorted(bought)
    assert bought[0] == 0
    assert bought[-1] == len(LADDER) - 1


def test_no_more_images_than_asked_for(costs):
    distillation, report = work_within(1e6, None, (3, 224, 224), Distillation("natural", count=4), rounds=False)
    assert distillation.count == report["work"]["count"] == 4


def test_places_are_those_of_the_outputs():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, groups=1), nn.ConvTranspose2d(4, 2, 2, stride=2), nn.Flatten(2), nn.Linear(196, 3)
    )
    assert places_of_layers(network, torch.zeros(1, 3, 15, 15)) == {"0": 49, "1": 196, "3": 2}


def test_networks_that_take_images_of_one_size_get_them():
    def classifier(side: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 2, 3, stride=16), nn.Flatten(), nn.Linear(2 * side * side, 5))

    assert shares_of_size(classifier(14), (3, 224, 224)) == (1,)
    anything = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5))
    assert shares_of_size(anything, (3, 224, 224)) == (0.5, 1)
    assert shares_of_size(anything, (3, 64, 64)) == (1,)


def test_the_same_work_gives_the_same_result(network):
    within = zeroq.zero_shot_quantize(network, (3, 16, 16), 4, 8, seconds=1e-6)
    done = within.report["work"]
    assert done == {"count": 8, "share": 1, "iterations": 10}
    assert within.report["next_work"]["seconds"] > 0
    assert {"distill", "sensitivity", "calibrate"} <= within.report["seconds"].keys()
    again = zeroq.zero_shot_quantize(network, (3, 16, 16), 4, 8, count=done["count"], iterations=done["iterations"])
    assert again.plan == within.plan
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, within.model.state_dict()[name])
    assert "work" not in again.report


@pytest.mark.parametrize(
    ("side", "arguments", "shape"),
    [
        (160, {}, (16, 3, 80, 80)),
        (160, {"size": 160, "count": 2}, (2, 3, 160, 160)),
        (160, {"method": "zeroq", "iterations": 2}, (32, 3, 160, 160)),
        (128, {}, (16, 3, 128, 128)),
    ],
)
def test_large_images_are_halved_unless_told(network, side, arguments, shape):
    result = zeroq.zero_shot_quantize(network, (3, side, side), 8, 8, mixed=False, **arguments)
    assert result.images.shape == shape
    assert len(result.report["distill_losses"]) == arguments.get("iterations", 20)


def test_they_keep_their_proportions_and_the_size_that_a_network_needs(network):
    result = zeroq.zero_shot_quantize(network, (3, 200, 140), 8, 8, mixed=False, iterations=1)
    assert result.images.shape == (16, 3, 100, 70)
    layers = [nn.Conv2d(3, 4, 3, stride=16), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9 * 9, 5)]
    fixed = estimate_statistics(nn.Sequential(*layers), (3, 144, 144))
    result = zeroq.zero_shot_quantize(fixed, (3, 144, 144), 8, 8, mixed=False, iterations=1)
    assert result.images.shape == (16, 3, 144, 144)


def test_weights_that_are_computed_at_every_forward_have_a_budget_too(network):
    """They are made permanent before anything is timed or checked."""
    normed = copy.deepcopy(network)
    parametrizations.weight_norm(normed[0])
    within = zeroq.zero_shot_quantize(normed, (3, 16, 16), 4, 8, seconds=1e-6)
    assert within.report["work"]["count"] == 8
    assert within.plan.keys() == {"0", "5"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 0}, "must be positive, not 0"),
        ({"seconds": "30"}, "must be positive, not '30'"),
        ({"seconds": float("nan")}, "must be positive, not nan"),
        ({"seconds": 9, "iterations": 5}, "leave those out, or seconds"),
        ({"seconds": 9, "size": 8}, "leave those out, or seconds"),
        ({"seconds": 9, "method": "zeroq"}, "recipe 'published' has its own"),
        ({"seconds": 9, "method": "gaussian"}, "here none are"),
        ({"seconds": 9, "images": torch.zeros(1, 3, 16, 16)}, "here none are"),
        ({"seconds": 9, "placement": "everywhere"}, "placement must be one of"),
    ],
)
def test_what_does_not_go_with_a_budget(network, arguments, message):
    with pytest.raises(zeroq.ZeroQError, match=message):
        zeroq.zero_shot_quantize(network, (3, 16, 16), 4, 8, **arguments)
