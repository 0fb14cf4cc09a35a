"""Activation ranges that disturb least: the layer behind them, or else what the network says."""

import torch
from torch import nn

from zeroq.images import evenly_spread
from zeroq.layers import weighted_layers
from zeroq.mixed_precision.estimated import changes_of_scores, outputs_of, score_gradients
from zeroq.mixed_precision.outputs import Output, Reading, UnreadableOutputError, reading_of
from zeroq.modules import evaluating, forward, without_weight_gradients
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import AffineParameters, fake_quantize
from zeroq.quantization.convert import activation_quantizers
from zeroq.rounding.activation_ranges import SHARES, narrow_ranges, range_candidates

# Each is seen by so many random directions.
IMAGES = 32
DIRECTIONS = 4
IMAGES_AT_ONCE = 4  # all activations of these are held


def clip_ranges(quantized: nn.Module, model: nn.Module, images: torch.Tensor, output: Output = None) -> None:
    """Cut each activation range to the share of it that disturbs least.

    Where it is a layer's input, that is by the layer's output (``narrow_ranges``). Where it is not, as with placements
    ``integer`` and ``after_relu``, sums, pools and several layers may follow, and it is by the divergence of the class
    scores to second order, as in ``estimates``: the change Δ of an activation costs ½ E[⟨Jᵀ B ξ, Δ⟩²]. The whole range
    is one of the candidates, and stays where no scores are found in the network's output.

    Args:
        quantized: a calibrated copy of ``model``; its quantizers are changed in place.
        model: the float network.
        images: float [N, C, H, W], normalised.
        output: as in ``sensitivity``.

    Raises ZeroQError where ranges are of others than layers' inputs, for a network that cannot be differentiated, and
    for an ``output`` that is not there.
    """
    narrow_ranges(quantized, model, images)
    inputs = {id(getattr(layer, "input_quantizer", None)) for layer in weighted_layers(quantized).values()}
    others = {
        name: quantizer
        for name, quantizer in activation_quantizers(quantized).items()
        if quantizer.calibrated and id(quantizer) not in inputs
    }
    if not others:
        return
    chosen = evenly_spread(images, IMAGES).detach()
    try:
        reading = reading_of(model, chosen, output)
    except UnreadableOutputError:
        if output is not None:
            raise
        return
    _clip_by_scores(quantized, others, chosen, reading)


def _clip_by_scores(
    quantized: nn.Module, quantizers: dict[str, ActivationQuantizer], images: torch.Tensor, reading: Reading
) -> None:
    candidates = {name: range_candidates(quantizer) for name, quantizer in quantizers.items()}
    costs = {name: torch.zeros(len(SHARES), dtype=torch.float64) for name in quantizers}
    generator = torch.Generator().manual_seed(0)
    passing = activation_quantizers(quantized).values()
    for quantizer in passing:  # while they record, values pass as they are
        quantizer.start_recording(None)
    try:
        with evaluating(quantized), without_weight_gradients(quantized):
            for part in images.split(IMAGES_AT_ONCE):
                for name, index, cost in _costs(quantized, quantizers, candidates, part, generator, reading):
                    costs[name][index] += cost
    finally:
        for quantizer in passing:
            quantizer.stop_recording()
    for name, found in costs.items():
        quantizers[name].set_parameters(candidates[name][int(found.argmin())])


@torch.inference_mode(False)
def _costs(
    quantized: nn.Module,
    quantizers: dict[str, ActivationQuantizer],
    candidates: dict[str, list[AffineParameters]],
    images: torch.Tensor,
    generator: torch.Generator,
    reading: Reading,
) -> list[tuple[str, int, torch.Tensor]]:
    """(quantizer, candidate's index, sum of squared changes of the scores over images and directions)."""
    with torch.enable_grad(), outputs_of(quantizers) as calls:
        scores = reading.scores(forward(quantized, images.clone().requires_grad_()))
    calls = [call for call in calls if call.output.numel()]
    gradients = score_gradients(scores, calls, reading.kind, DIRECTIONS, generator)
    found = []
    with torch.no_grad():
        for name, options in candidates.items():
            places = [
                place for place, call in enumerate(calls) if call.name == name and gradients[0][place] is not None
            ]
            for index, parameters in enumerate(options if places else ()):
                changes = [fake_quantize(calls[place].output, parameters).sub_(calls[place].output) for place in places]
                moved = changes_of_scores(gradients, calls, places, changes, len(images))
                found.append((name, index, moved.square().sum().cpu()))
    return found
