"""Distances between images as BatchNorm layers see them, against numpy."""

import numpy
import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.distillation import distances
from zeroq.distillation.distances import layer_distances


class Twice(nn.Module):
    """Uses a BatchNorm layer twice, one behind vectors, and one never."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 1)
        self.vectors, self.never, self.head = nn.BatchNorm1d(4), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        self.seen = self.second(x)
        return self.head(self.vectors(self.norm(self.seen).mean((2, 3))))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return estimate_statistics(Twice(), (3, 8, 8))


def inputs(model: Twice, images: torch.Tensor) -> dict[str, numpy.ndarray]:
    """[values, channels] of each layer's inputs."""
    with torch.no_grad():
        first = model.first(images)
        second = model.second(model.norm(first).relu())
        vectors = model.norm(second).mean((2, 3))
    by_channel = [each.double().permute(0, 2, 3, 1).reshape(-1, 4).numpy() for each in (first, second)]
    return {"norm": numpy.concatenate(by_channel), "vectors": vectors.double().numpy()}


def test_is_frechet_s_distance_of_normal_distributions(model, monkeypatch):
    monkeypatch.setattr(distances, "AT_ONCE", 3)
    random = torch.Generator().manual_seed(1)
    images, others = torch.randn(7, 3, 8, 8, generator=random), 2 * torch.rand(10, 3, 8, 8, generator=random)
    found = layer_distances(model, images, others)
    assert list(found) == ["norm", "vectors"]
    one, other = inputs(model, images), inputs(model, others)
    for name, distance in found.items():
        layer = model.get_submodule(name)
        squares = (one[name].mean(0) - other[name].mean(0)) ** 2 + (one[name].std(0) - other[name].std(0)) ** 2
        recorded = layer.running_var.double().numpy() + layer.eps
        assert distance == pytest.approx(numpy.sqrt((squares / recorded).mean()), rel=1e-5)


def test_images_are_where_they_are(model):
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert max(layer_distances(model, images, images.flip(0)).values()) < 1e-6


def test_a_network_without_batch_norm_is_refused(no_norm):
    images = torch.zeros(2, 3, 8, 8)
    with pytest.raises(zeroq.ZeroQError, match="no BatchNorm layer"):
        layer_distances(no_norm, images, images)
