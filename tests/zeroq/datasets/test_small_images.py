"""Small images, served as a network expects."""

import torch
from torchvision import datasets
from torchvision.transforms import v2

from tests.paths import DATA
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.networks.zoo import input_specification as zoo_specification


def test_batches_are_what_the_network_was_trained_on():
    dataset = FashionMNIST(DATA, zoo_specification("resnet18"))
    images, labels = next(iter(dataset.batches(100)))
    assert images.shape == (100, 1, 56, 56)
    reference = datasets.FashionMNIST(str(DATA), train=False)
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((56, 56), antialias=False),
            v2.Normalize([0.286], [0.353]),
        ]
    )
    assert torch.allclose(images[17], transform(reference[17][0]), atol=1e-5)
    assert labels[17] == reference[17][1]
    assert sum(len(labels) for _, labels in dataset.batches()) == 10_000


def test_sample_is_reproducible_and_without_repeats():
    dataset = FashionMNIST(DATA, zoo_specification("resnet18"), train=True)
    first, again, other = (dataset.sample(8, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.flatten(1).unique(dim=0)) == 8
