"""Stages that several processes share give what one process gives."""

import pytest
import torch

from experiments.core import scoring
from tests.paths import DATA
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.networks import zoo
from zeroq.parallel import on_devices

TWO = ("cpu", "cpu")


def test_a_classifier_has_the_same_score():
    network = zoo.load("resnet18", None)
    data = FashionMNIST(DATA, network.input)
    data.images, data.labels = data.images[:550], data.labels[:550]
    arguments = (scoring.score_on, network.module, data, network.detector, "score")
    one, two = on_devices(("cpu",), *arguments), on_devices(TWO, *arguments)
    assert (one.top1, one.top5) == (two.top1, two.top5)
    assert torch.equal(one.predictions, two.predictions)


@pytest.mark.slow
def test_a_detector_has_the_same_score():
    network = zoo.load("retinanet", None)
    data = FashionScenes(DATA, network.input, count=110)
    arguments = (scoring.score_on, network.module, data, network.detector, "score")
    assert on_devices(("cpu",), *arguments) == on_devices(TWO, *arguments)
