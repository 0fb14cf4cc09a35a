"""Training the zoo: resumable, and augmentation that does what it says."""

import copy

import pytest
import torch

from experiments.train_zoo import Phase, Recipe, Training, augment, jitter, mix
from tests.test_data import DATA
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.networks import zoo

SHORT = Recipe(
    phases=(
        Phase(2, learning_rate=0.1, mixup=0.4, contrast=0.2, brightness=0.1, noise=0.1),
        Phase(1, learning_rate=0.01, mixup=0, contrast=0, brightness=0, noise=0),
    ),
    batch_size=8,
)


@pytest.fixture
def sixteen() -> FashionMNIST:
    dataset = FashionMNIST(DATA, zoo.input_specification("mobilenetv2"))
    dataset.images, dataset.labels = dataset.images[:16], dataset.labels[:16]
    return dataset


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(sixteen, stop):
    whole = Training("mobilenetv2", SHORT, sixteen, torch.device("cpu"))
    for epoch in range(3):
        whole.run_epoch()
        if epoch + 1 == stop:
            saved = copy.deepcopy(whole.state())
    resumed = Training("mobilenetv2", SHORT, sixteen, torch.device("cpu"))
    resumed.restore(saved)
    while resumed.epoch < 3:
        resumed.run_epoch()
    expected = whole.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.network.state_dict().items())


def test_a_state_of_another_recipe_is_ignored(sixteen):
    training = Training("mobilenetv2", SHORT, sixteen, torch.device("cpu"))
    training.run_epoch()
    other = Training("mobilenetv2", Recipe(batch_size=8), sixteen, torch.device("cpu"))
    other.restore(training.state())
    assert other.epoch == 0


def test_augmentation():
    torch.manual_seed(0)
    pixels = torch.randint(0, 255, (64, 1, 28, 28), dtype=torch.uint8)
    shifted = augment(pixels, 0)
    mirrored = [torch.equal(after, before.flip(2)) for before, after in zip(pixels, shifted, strict=True)]
    same = [torch.equal(after, before) for before, after in zip(pixels, shifted, strict=True)]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48
    images, labels = torch.rand(64, 1, 8, 8), torch.arange(64) % 10
    assert mix(images, labels, 0)[0] is images
    mixed, targets = mix(images, labels, 0.4)
    assert torch.allclose(targets.sum(1), torch.ones(64))
    assert torch.allclose(mixed.mean(), images.mean(), atol=0.02)
    still = Phase(1, learning_rate=1, mixup=0, contrast=0, brightness=0, noise=0)
    assert torch.equal(jitter(images, still), images)
