"""Trainings of a few samples."""

from collections.abc import Callable

import pytest
import torch

from experiments.training import loop as training
from experiments.training.classifiers import ClassifierTraining, Phase, Recipe
from experiments.training.detectors import DetectorTraining
from experiments.training.detectors import Recipe as DetectorRecipe
from tests.paths import DATA
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
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
