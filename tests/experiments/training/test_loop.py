"""Training the zoo: resumable, and augmentation that does what it says."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from experiments.training import loop as training
from experiments.training.classifiers import ClassifierTraining, Phase, Recipe, augment, mix
from experiments.training.detectors import DetectorTraining
from experiments.training.detectors import Recipe as DetectorRecipe
from tests.paths import DATA
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.errors import ZeroQError
from zeroq.networks import zoo

CPU = torch.device("cpu")
SHORT = Recipe(
    phases=(
        Phase(2, learning_rate=0.1, mixup=0.4, contrast=0.2, brightness=0.1, noise=0.1),
        Phase(1, learning_rate=0.01, mixup=0, contrast=0, brightness=0, noise=0),
    ),
    batch_size=8,
)


SHORT_DETECTOR = DetectorRecipe(
    phases=(training.Phase(3, learning_rate=0.001, contrast=0.1, brightness=0.1, noise=0.1),), batch_size=2, scenes=4
)


@pytest.fixture(params=["mobilenetv2", "retinanet"])
def start(request) -> Callable[[], training.Training]:
    """A training of a few samples, before its first epoch."""
    specification = zoo.input_specification(request.param)

    def classifier() -> training.Training:
        images = FashionMNIST(DATA, specification)
        images.images, images.labels = images.images[:16], images.labels[:16]
        return ClassifierTraining(request.param, SHORT, CPU, training_images=images, test_images=images)

    def detector() -> training.Training:
        scenes = FashionScenes(DATA, specification, count=2)
        return DetectorTraining(request.param, SHORT_DETECTOR, CPU, training_scenes=scenes, test_scenes=scenes)

    return detector if request.param == "retinanet" else classifier


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_run_equals_an_uninterrupted_one(start, stop):
    whole = start()
    for epoch in range(3):
        whole.run_epoch()
        if epoch + 1 == stop:
            saved = copy.deepcopy(whole.state())
    resumed = start()
    resumed.restore(saved)
    while resumed.epoch < 3:
        resumed.run_epoch()
    expected = whole.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in resumed.network.state_dict().items())
    assert set(whole.score()) in ({"top1", "top5"}, {"map", "map50"})


def test_a_state_of_another_recipe_is_refused(start):
    first, other = start(), start()
    first.run_epoch()
    other.recipe = replace(other.recipe, weight_decay=0.1)
    with pytest.raises(ZeroQError, match="another recipe; move it away"):
        other.restore(first.state())


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
    assert torch.equal(training.jitter(images, still), images)
