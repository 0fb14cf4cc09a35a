"""A training that was stopped goes on as if it had not been."""

import copy
from dataclasses import replace

import pytest
import torch

from zeroq.errors import ZeroQError


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
