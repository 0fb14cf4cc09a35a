"""Model size as the paper counts it."""

from collections.abc import Mapping

from torch import nn

from zeroq.layers import weighted_layers
from zeroq.quantization.convert import resolve_weight_bits
from zeroq.quantization.permanent_weights import with_permanent_weights

BITS_PER_MIB = 8 * 2**20


def mean_bits(model: nn.Module, weight_bits: int | Mapping[str, int]) -> float:
    """Mean bits of a Conv or Linear weight of the network."""
    plan = resolve_weight_bits(model, weight_bits)
    counts = {name: layer.weight.numel() for name, layer in weighted_layers(model).items()}
    return sum(counts[name] * bits for name, bits in plan.items()) / sum(counts.values())


def size_mib(model: nn.Module, weight_bits: int | Mapping[str, int] = 32) -> float:
    """Parameters × bits / 8 / 2²⁰, everything outside Conv and Linear weights at their mean bits."""
    model = with_permanent_weights(model)
    return parameter_count(model) * mean_bits(model, weight_bits) / BITS_PER_MIB


def average_bits_for(model: nn.Module, budget_mib: float) -> float:
    """The mean weight bits at which ``size_mib`` is ``budget_mib``."""
    return budget_mib * BITS_PER_MIB / parameter_count(model)


def parameter_count(model: nn.Module) -> int:
    """Parameters of the network, each shared one counted once."""
    return sum(parameter.numel() for parameter in model.parameters())
