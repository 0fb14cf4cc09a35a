"""Calibration images: which are taken."""

import pytest
import torch

import zeroq
from zeroq.images import MOST_IMAGES, check_count, check_images, evenly_spread


@pytest.mark.parametrize("count", [1, 2, MOST_IMAGES - 1, MOST_IMAGES])
def test_counts_that_are_taken(count):
    check_count(count)


@pytest.mark.parametrize("count", [-1, 0, MOST_IMAGES + 1, 1.0, "1", None])
def test_counts_that_are_refused(count):
    with pytest.raises(zeroq.ZeroQError, match="count must be at least 1 and at most 100,000, a whole number"):
        check_count(count)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (3, 4, 4), (1, 2, 3, 4, 4)])
def test_one_image_at_least_of_channels_and_places(shape):
    with pytest.raises(zeroq.ZeroQError, match="images must be one float tensor"):
        check_images(torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_pixel_that_is_no_number(value):
    images = torch.zeros(2, 3, 4, 4)
    check_images(images)
    images[1, 2, 3, 3] = value
    with pytest.raises(zeroq.ZeroQError, match="NaN or infinite"):
        check_images(images)


@pytest.mark.parametrize(
    ("available", "count", "expected"), [(5, 3, [0, 2, 4]), (10, 4, [0, 3, 6, 9]), (3, 8, [0, 1, 2]), (4, 1, [0])]
)
def test_the_first_and_the_last_are_among_those_chosen(available, count, expected):
    images = torch.arange(available)[:, None, None, None].expand(-1, 3, 2, 2)
    assert evenly_spread(images, count)[:, 0, 0, 0].tolist() == expected
