"""What tests of DFQ share."""

import copy

import torch
from torch import nn
from torch.nn import functional


class Several(nn.Module):
    """One layer that sees two different inputs, a sum of rectified values, and a sum with a multiple."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.shared, self.last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x):
        one, two = functional.relu(self.one(x)), functional.relu(self.two(x) + 3)
        seen = self.shared(one) + self.shared(10 + two)
        return self.last(one + two), torch.add(one, other=two, alpha=-2), seen


def assert_unchanged(step, graph) -> None:
    """A step leaves every tensor of a graph as it was."""
    before = copy.deepcopy(graph.state_dict())
    after = step(graph).state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
