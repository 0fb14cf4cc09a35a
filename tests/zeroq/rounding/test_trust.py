"""How far images are from what BatchNorm layers recorded, by the layer before them."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

import zeroq
from tests.zeroq.rounding.test_gram import as_matrix
from zeroq.rounding.second_moments import SecondMoments
from zeroq.rounding.trust import statistics_mismatch


class Branching(nn.Module):
    """A norm that does not follow a layer directly, one of timm's, and a layer without one."""

    def __init__(self):
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4, eps=1e-3)
        self.other = nn.Conv2d(4, 6, 1)
        self.active = BatchNormAct2d(6)
        self.behind_a_sum = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.active(self.other(self.norm(self.plain(images)).relu()))
        return self.head(self.behind_a_sum(features + 1).mean((2, 3)))


@pytest.fixture
def network() -> Branching:
    torch.manual_seed(0)
    return Branching().eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(8, 3, 7, 7, generator=torch.Generator().manual_seed(0))


def test_it_is_what_the_norms_recorded_against_what_they_see(network, images):
    features = network.plain(images).detach()
    network.norm.running_mean = features.mean((0, 2, 3)) + 0.1
    network.norm.running_var = 1.21 * features.var((0, 2, 3), correction=0) - network.norm.eps
    found = statistics_mismatch(network, images)
    deviation = 1.1 * features.std((0, 2, 3), correction=0)
    expected = ((0.1**2 + (deviation - deviation / 1.1) ** 2) / deviation**2).mean().item()
    assert found["plain"] == pytest.approx(expected, rel=1e-4)
    assert found.keys() == {"plain", "other", "head"}
    assert found["head"] == pytest.approx((found["plain"] + found["other"]) / 2)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_norms_over_vectors_say_so_too(images):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(147, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    outputs = network[1](network[0](images)).detach().double()
    target = 1 + network[2].eps
    deviation = outputs.std(0, correction=0)
    expected = (((outputs.mean(0) ** 2 + (deviation - target**0.5) ** 2) / target).clamp_max(1)).mean().item()
    assert statistics_mismatch(network, images)["1"] == pytest.approx(expected, rel=1e-5)


def test_statistics_of_the_images_themselves_match(network, images):
    network.train()
    for norm in (network.norm, network.active, network.behind_a_sum):
        norm.momentum = 1.0
    network(images)
    network.eval()
    assert max(statistics_mismatch(network, images).values()) < 0.01


def test_a_network_without_norms_knows_nothing(no_norm, images):
    assert set(statistics_mismatch(no_norm, images).values()) == {0.0}


def test_what_is_not_trusted_is_damped(images):
    moments = SecondMoments(nn.Conv2d(3, 4, 3), [images])
    trusted, distrusted = moments.shrunk(0.0)[0], moments.shrunk(0.5)[0]
    difference = as_matrix(distrusted) - as_matrix(trusted)
    level = moments.gram.diagonal.mean()
    torch.testing.assert_close(difference, 0.5 * level * torch.eye(27, dtype=torch.float64)[None])


def test_damaged_statistics_are_refused(network, images):
    network.norm.running_var.fill_(float("nan"))
    with pytest.raises(zeroq.ZeroQError, match="BatchNorm behind 'plain' sees or holds NaN"):
        statistics_mismatch(network, images)
