"""Activation ranges that disturb least: the layer behind them, or else what the network says."""

import torch
from torch import nn

from zeroq.images import evenly_spread
from zeroq.layers import weighted_layers
from zeroq.mixed_precision.divergence import scores_of
from zeroq.mixed_precision.estimated import changes_of_scores, outputs_of, score_gradients
from zeroq.modules import evaluating, forward, without_weight_gradients
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import fake_quantize
from zeroq.quantization.convert import activation_quantizers
from zeroq.rounding.activation_ranges import SHARES, narrow_ranges, range_candidates

# Each is seen by so many random directions.
IMAGES = 32
DIRECTIONS = 4
IMAGES_AT_ONCE = 4  # all activations of these are held


def clip_ranges(quantized: nn.Module, model: nn.Module, images: torch.Tensor) -> None:
    """Cut each activation range to the share of it that disturbs least.

    Where it is a layer's input, that is by the layer's output (``narrow_ranges``). Where it is not, as with placements
    ``integer`` and ``after_relu``, sums, pools and several layers may follow, and it is by the divergence of the class
    scores to second order, as in ``estimates``: the change Δ of an activation costs ½ E[⟨Jᵀ B ξ, Δ⟩²]. The whole range
    is one of the candidates.

    Args:
        quantized: a calibrated copy of ``model``; its quantizers are changed in place.
        model: the float network.
        images: float [N, C, H, W], normalised.

    Raises ZeroQError for a network whose output holds no class scores, and for one that cannot be differentiated, where
    ranges are of others than layers' inputs.
    """
    narrow_ranges(quantized, model, images)
    inputs = {id(getattr(layer, "input_quantizer", None)) for layer in weighted_layers(quantized).values()}
    others = {
        name: quantizer
        for name, quantizer in activation_quantizers(quantized).items()
        if quantizer.calibrated and id(quantizer) not in inputs
    }
    if others:
        _clip_by_scores(quantized, others, images)


def _clip_by_scores(quantized: nn.Module, quantizers: dict[str, ActivationQuantizer], images: torch.Tensor) -> None:
    candidates = {name: range_candidates(quantizer) for name, quantizer in quantizers.items()}
    costs = {name: torch.zeros(len(SHARES), dtype=torch.float64) for name in quantizers}
    generator = torch.Generator().manual_seed(0)
    chosen = evenly_spread(images, IMAGES).detach()
    passing = activation_quantizers(quantized).values()
    for quantizer in passing:  # while they record, values pass as they are
        quantizer.start_recording(None)
    try:
        with evaluating(quantized), without_weight_gradients(quantized):
            for part in chosen.split(IMAGES_AT_ONCE):
                for name, index, cost in _costs(quantized, quantizers, candidates, part, generator):
                    costs[name][index] += cost
    finally:
        for quantizer in passing:
            quantizer.stop_recording()
    for name, found in costs.items():
        quantizers[name].set_parameters(candidates[name][int(found.argmin())])


@torch.inference_mode(False)
def _costs(quantized, quantizers, candidates, images, generator):
    """(quantizer, candidate's index, sum of squared changes of the scores over images and directions)."""
    with torch.enable_grad(), outputs_of(quantizers) as calls:
        scores = scores_of(forward(quantized, images.clone().requires_grad_()))
    calls = [(name, output) for name, _, _, output in calls if output.requires_grad and output.numel()]
    outputs = [output for _, output in calls]
    gradients = score_gradients(scores, outputs, DIRECTIONS, generator)
    found = []
    with torch.no_grad():
        for name, options in candidates.items():
            places = [place for place, (own, _) in enumerate(calls) if own == name and gradients[0][place] is not None]
            for index, parameters in enumerate(options if places else ()):
                changes = (fake_quantize(outputs[place], parameters).sub_(outputs[place]) for place in places)
                found.append((name, index, changes_of_scores(gradients, places, changes).square().sum().cpu()))
    return found
