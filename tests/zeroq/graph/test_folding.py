"""BatchNorm folded into layers, ReLU6 replaced by ReLU: what it changes, and what is left alone."""

import pytest
import torch
from timm.layers import BatchNormAct2d, StdConv2d
from torch import nn
from torch.nn import functional

import zeroq
from tests.networks import SubclassedConv, assert_equal_outputs, estimate_statistics, outputs
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.patterns import layer_pairs
from zeroq.graph.tracing import trace
from zeroq.modules import batch_norms


class Doubling(nn.BatchNorm2d):
    """Holds BatchNorm's statistics and does something else."""

    def forward(self, x):
        return 2 * super().forward(x)


class Rectified(nn.BatchNorm2d):
    """With an activation that only its own inputs reach."""

    def forward(self, x):
        return super().forward(x).relu()


def far_off() -> nn.Module:
    norm = Rectified(4)
    norm.bias.data += 5
    return norm


class WithFunction(nn.BatchNorm2d):
    """With an activation that is no module."""

    act = staticmethod(functional.relu)

    def forward(self, x):
        return self.act(super().forward(x))


class Branched(nn.Module):
    """What BatchNorm sees is used elsewhere, too."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.layer(x)
        return self.norm(y) + y


class Shared(Branched):
    """One layer before BatchNorm and before something else."""

    def forward(self, x):
        return self.norm(self.layer(x)) + self.layer(2 * x)


class NormTwice(Branched):
    def forward(self, x):
        return self.norm(self.norm(self.layer(x)))


class ReferringToNorm(Branched):
    """A scale that the network's own code uses as well."""

    def forward(self, x):
        return self.norm(self.layer(x)) * self.norm.weight.mean()


class Referring(Branched):
    """A weight that the network's own code uses as well."""

    def forward(self, x):
        return self.norm(self.layer(x)) + self.layer.weight.sum()


@pytest.mark.parametrize(
    "network",
    [
        Branched(),
        Shared(),
        NormTwice(),
        Referring(),
        ReferringToNorm(),
        nn.Sequential(nn.Conv2d(3, 4, 1), Doubling(4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), far_off()),
        nn.Sequential(nn.Conv2d(3, 4, 1), WithFunction(4)),
        nn.Sequential(SubclassedConv(3, 4, 1), nn.BatchNorm2d(4)),
        nn.Sequential(StdConv2d(3, 4, 1), nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
    ],
    ids=[
        "branch",
        "shared",
        "twice",
        "reference",
        "reference to norm",
        "doubling",
        "own activation",
        "own function",
        "subclass",
        "standardized",
        "behind relu",
    ],
)
def test_only_what_folds_exactly_is_folded(network):
    torch.manual_seed(0)
    network = estimate_statistics(network, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)
    graph = fold_batch_norms(trace(network))
    assert len(batch_norms(graph)) == 1
    assert_equal_outputs(graph, images, outputs(network, images))


@pytest.mark.parametrize(
    ("network", "pairs"),
    [
        (
            nn.Sequential(
                nn.Conv2d(3, 4, 1), BatchNormAct2d(4), nn.Conv2d(4, 4, 1), BatchNormAct2d(4, apply_act=False)
            ),
            1,
        ),
        (nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU()), 0),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)), 1),
    ],
    ids=["with activation", "transposed, two norms", "vectors"],
)
def test_every_batch_norm_behind_a_layer_is_folded(network, pairs):
    torch.manual_seed(0)
    network = estimate_statistics(network, (3, 8, 8))
    images = torch.randn(2, 3, 8, 8)
    graph = fold_batch_norms(trace(network))
    assert not batch_norms(graph)
    assert len(layer_pairs(graph)) == pairs
    assert_equal_outputs(graph, images, outputs(network, images))


def test_batch_norm_without_eps_is_named():
    norm = nn.BatchNorm2d(4)
    del norm.eps
    with pytest.raises(zeroq.ZeroQError, match=r"'1' \(BatchNorm2d\) .* no eps"):
        fold_batch_norms(trace(nn.Sequential(nn.Conv2d(3, 4, 1), norm)))
