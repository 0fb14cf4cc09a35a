"""Data-free quantization through weight equalization and bias correction (Nagel et al., ICCV 2019)."""

from dataclasses import dataclass

import torch
from torch import fx, nn

from zeroq.baselines.analytic_bias_correction import correctable
from zeroq.baselines.bias_absorption import absorb_high_biases, unabsorbed_channels
from zeroq.baselines.equalization import equalize, unequal_channels
from zeroq.baselines.moments import Moments
from zeroq.baselines.relu6 import replace_relu6
from zeroq.borrowing import copied
from zeroq.graph.folding import fold_batch_norms
from zeroq.graph.functional import make_functional
from zeroq.graph.operators import kind
from zeroq.graph.patterns import layer_pairs
from zeroq.graph.placement import separate_activations
from zeroq.graph.tracing import check_traced, trace
from zeroq.layers import weighted_layer, weighted_layers
from zeroq.methods import Method, Ranges
from zeroq.modules import batch_norms
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.settings import BiasCorrection


@dataclass(frozen=True)
class Steps:
    """Which of DFQ's steps on float weights are taken, after BatchNorm was folded."""

    replace_relu6: bool = True
    equalize: bool = True
    absorb: bool = True

    def __call__(self, model: nn.Module, input_shape: tuple[int, int, int]) -> fx.GraphModule:
        """A copy of a network after the steps; the given network is untouched.

        Raises ZeroQError where the network cannot be traced.
        """
        graph = trace(model, input_shape)
        check_traced(model, graph, input_shape)
        graph = fold_batch_norms(graph)
        separate_activations(graph)
        make_functional(graph)  # an activation inside a BatchNorm may have worked in place
        for taken, step in (
            (self.replace_relu6, replace_relu6),
            (self.equalize, equalize),
            (self.absorb, absorb_high_biases),
        ):
            if taken:
                graph = step(graph)
        return graph


# As published: one weight range a tensor, ranges from BatchNorm's statistics, analytic bias correction, no images.
METHOD = Method("dfq", images="none", ranges="statistics", steps=Steps(), per_channel=False, bias_correction="analytic")


def skipped_steps(graph: fx.GraphModule, steps: Steps, bias_correction: BiasCorrection) -> list[str]:
    """Which of the chosen steps were not taken, or not everywhere, and why; ``graph`` went through them."""
    reasons = []
    has_statistics = any(hasattr(layer, "output_mean") for layer in weighted_layers(graph).values())
    if not has_statistics:
        reasons.append("BatchNorm folding: there is no BatchNorm behind a Conv or Linear layer")
        if steps.absorb:
            reasons.append("high-bias absorption: no layer has BatchNorm's statistics")
        if bias_correction == "analytic":
            reasons.append("analytic bias correction: no layer has BatchNorm's statistics")
    if unfolded := batch_norms(graph):
        reasons.append(f"BatchNorm folding of {len(unfolded)} layers that follow no layer of their own")
    pairs = layer_pairs(graph)
    if steps.equalize and not pairs:
        reasons.append("cross-layer equalization: no two layers follow each other without a branch")
    # With ReLU in place of ReLU6, more layers would be pairs.
    scaling = len(layer_pairs(replace_relu6(copied(graph))))
    if steps.equalize and scaling > len(pairs):
        reasons.append(
            f"cross-layer equalization across ReLU6, for {scaling - len(pairs)} of {scaling} pairs of layers"
        )
    if steps.equalize and (channels := unequal_channels(graph, pairs)):
        reasons.append(f"cross-layer equalization where a channel has next to no weight (channels: {channels})")
    if steps.absorb and (channels := unabsorbed_channels(graph, pairs)):
        reasons.append(f"high-bias absorption where padding would make it inexact (channels: {channels})")
    return reasons


def steps_without_statistics(
    graph: fx.GraphModule,
    layer_inputs: dict[str, list[Moments]],
    relu_outputs: dict[str, list[Moments]],
    ranges: Ranges,
    bias_correction: BiasCorrection,
) -> list[str]:
    """Where ranges come from noise, and which layers have no analytic bias correction, since no rule tells statistics.

    ``layer_inputs`` and ``relu_outputs`` are those of ``activation_moments`` of the float graph.
    """
    reasons = []
    seen = [each for calls in (*layer_inputs.values(), *relu_outputs.values()) for each in calls]
    measured = frozenset().union(*(each.measured for each in seen))
    if ranges == "statistics" and measured:
        kinds = {node.name: kind(graph, node) for node in graph.graph.nodes if node.name in measured}
        names = ", ".join(f"{name} ({getattr(what, '__name__', what)})" for name, what in kinds.items())
        reasons.append(f"ranges from statistics, by Gaussian noise instead, behind what has no rule: {names}")
    left = [name for name, calls in layer_inputs.items() if not correctable(weighted_layer(graph, name), calls)]
    if bias_correction == "analytic" and left:
        reasons.append(
            f"analytic bias correction where the mean input or what the weight does with it is not known: "
            f"{', '.join(left)}"
        )
    return reasons


def set_ranges(
    quantized: nn.Module, layer_inputs: dict[str, list[Moments]], relu_outputs: dict[str, list[Moments]]
) -> None:
    """Give every activation quantizer of a quantized graph the range that BatchNorm's statistics imply: β ± 6γ.

    ``layer_inputs`` and ``relu_outputs`` are those of ``activation_moments`` of the float graph.
    """
    for name, module in quantized.named_modules():
        for attribute, moments in (("input_quantizer", layer_inputs), ("output_quantizer", relu_outputs)):
            quantizer = getattr(module, attribute, None)
            if not isinstance(quantizer, ActivationQuantizer) or name not in moments:
                continue
            quantizer.start_recording(None)
            for seen in moments[name]:
                quantizer(torch.stack([seen.low.min(), seen.high.max()]))
            quantizer.freeze()
