"""A bit plan: how many bits each layer's weights get, what that weighs and what it costs."""

from collections.abc import Mapping
from typing import Any


class BitPlan(dict[str, int]):
    """{layer name: bits}.

    ``size_bits`` is the size of all Conv and Linear weights in bits, ``sensitivity`` the sum of their Ω in
    nats, ``average_bits`` the mean bits of a weight.
    """

    def __init__(self, bits: Mapping[str, int], *, size_bits: int, sensitivity: float, parameters: int):
        super().__init__(bits)
        self.size_bits = size_bits
        self.sensitivity = sensitivity
        self.average_bits = size_bits / parameters

    def __reduce__(self) -> Any:
        parameters = round(self.size_bits / self.average_bits)
        return _rebuild, (dict(self), self.size_bits, self.sensitivity, parameters)


def _rebuild(bits: dict[str, int], size_bits: int, sensitivity: float, parameters: int) -> BitPlan:
    return BitPlan(bits, size_bits=size_bits, sensitivity=sensitivity, parameters=parameters)
