"""Work that two processes share gives what one process gives."""

import os
import signal

import pandas
import pytest

from zeroq.errors import ZeroQError
from zeroq.mixed_precision.sensitivity import sensitivity
from zeroq.parallel import all_gather, on_devices, rank_and_size, shard

TWO = ("cpu", "cpu")


def doubled(device: str, counts: tuple[int, ...]) -> tuple[list[list[int]], tuple[int, int]]:
    return [all_gather([2 * item for item in shard(range(count))]) for count in counts], rank_and_size()


def fail_once(device: str) -> None:
    if rank_and_size()[0] == 1:
        raise ZeroQError("the second half is damaged")
    all_gather([0])


def die(device: str) -> None:
    if rank_and_size()[0] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    all_gather([0])


def divide(device: str) -> float:
    return 1 / rank_and_size()[0]


def test_one_device_needs_no_process_of_its_own():
    assert on_devices(("cpu",), lambda device, number: (device, number, rank_and_size()), 3) == ("cpu", 3, (0, 1))


def test_a_process_that_dies_is_said():
    with pytest.raises(ZeroQError, match=r"one of 2 processes that shared the work died: .*SIGKILL"):
        on_devices(TWO, die)


def test_an_error_that_nobody_raised_on_purpose_keeps_its_name():
    with pytest.raises(Exception, match="ZeroDivisionError: division by zero"):
        on_devices(TWO, divide)


def test_shares_make_up_the_whole_in_order():
    counts = (0, 1, 7)
    one, alone = doubled("cpu", counts)
    two, first = on_devices(TWO, doubled, counts)
    assert one == two == [[2 * item for item in range(count)] for count in counts]
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
