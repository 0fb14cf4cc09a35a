"""Work that two processes share gives what one process gives."""

import pandas
import pytest
import torch

from experiments.core import stages
from tests.paths import DATA
from zeroq import ZeroQError
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.mixed_precision.sensitivity import sensitivity
from zeroq.networks import zoo
from zeroq.parallel import all_gather, on_devices, rank_and_size, shard

TWO = ("cpu", "cpu")


def doubled(device: str, count: int) -> tuple[list[int], tuple[int, int]]:
    return all_gather([2 * item for item in shard(range(count))]), rank_and_size()


def fail_once(device: str) -> None:
    if rank_and_size()[0] == 1:
        raise ZeroQError("the second half is damaged")
    all_gather([0])


@pytest.mark.parametrize("count", [0, 1, 7])
def test_shares_make_up_the_whole_in_order(count):
    one, alone = doubled("cpu", count)
    two, first = on_devices(TWO, doubled, count)
    assert one == two == [2 * item for item in range(count)]
    assert (alone, first) == ((0, 1), (0, 2))


def test_an_error_in_one_process_ends_all():
    with pytest.raises(ZeroQError, match="the second half is damaged"):
        on_devices(TWO, fail_once)


@pytest.mark.parametrize("memory_mib", [1024, 0.001])
def test_sensitivities_are_the_same(hand_written, images, memory_mib):
    """With what precedes a layer computed once, and with full forwards."""
    one, two = (
        sensitivity(hand_written, images, (2, 8), memory_mib=memory_mib, devices=devices) for devices in ((), TWO)
    )
    pandas.testing.assert_frame_equal(one, two, check_exact=True)


def test_a_classifier_has_the_same_score():
    network = zoo.load("resnet18", None)
    data = FashionMNIST(DATA, network.input)
    data.images, data.labels = data.images[:550], data.labels[:550]
    arguments = (stages.score_on, network.module, data, network.detector, "score")
    one, two = on_devices(("cpu",), *arguments), on_devices(TWO, *arguments)
    assert (one.top1, one.top5) == (two.top1, two.top5)
    assert torch.equal(one.predictions, two.predictions)


@pytest.mark.slow
def test_a_detector_has_the_same_score():
    network = zoo.load("retinanet", None)
    data = FashionScenes(DATA, network.input, count=110)
    arguments = (stages.score_on, network.module, data, network.detector, "score")
    assert on_devices(("cpu",), *arguments) == on_devices(TWO, *arguments)
