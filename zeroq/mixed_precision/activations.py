"""How much the output moves when one activation alone is quantized (Ω of activations)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pandas
import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.errors import ZeroQError
from zeroq.graph.tracers import Leaf
from zeroq.images import check_images, shape_of
from zeroq.mixed_precision.clipping import clip_ranges
from zeroq.mixed_precision.divergence import Direction, check_direction
from zeroq.mixed_precision.estimated import estimates
from zeroq.mixed_precision.exact import with_full_forwards
from zeroq.mixed_precision.outputs import NOT_FINITE, Output, class_scores, reading_of
from zeroq.mixed_precision.sensitivity import Mode, SensitivityTable, check_candidates, check_mode
from zeroq.modules import evaluating, model_device, model_dtype
from zeroq.quantization.affine import FLOAT_BITS, LARGEST_BITS, AffineParameters, fake_quantize
from zeroq.quantization.calibrate import Calibration, calibrate, check_calibration, check_percentile
from zeroq.quantization.convert import Placement, activation_quantizers, convert, quantizer_places
from zeroq.quantization.operations import activation_elements
from zeroq.quantization.permanent_weights import with_permanent_weights


class Probe(nn.Module, Leaf):
    """Stands where a quantizer will: hands values on as they are, or quantizes them with given parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.parameters_now: AffineParameters | None = None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        # Without parameters a tensor of its own, whose gradient is not that of the other uses of the values.
        return values.view_as(values) if self.parameters_now is None else fake_quantize(values, self.parameters_now)

    @contextmanager
    def quantizing(self, parameters: AffineParameters) -> Iterator[None]:
        """Quantize inside, hand on again outside."""
        self.parameters_now = parameters
        try:
            yield
        finally:
            self.parameters_now = None


@dataclass(frozen=True)
class Activations:
    """Each activation at each width: what ``zeroq.mixed_precision.exact`` takes for ``Variants``.

    ``parameters`` are those of each place at each width, without the places that no image reaches.
    """

    layers: dict[str, Probe]
    widths: Sequence[int]
    parameters: dict[str, list[AffineParameters]]

    def variants(self, name: str) -> list[AbstractContextManager[None]]:
        """The activation at each width, while the context lasts; none where no image reaches it."""
        return [self.layers[name].quantizing(each) for each in self.parameters.get(name, ())]


@borrows
def activation_sensitivity(
    model: nn.Module,
    images: torch.Tensor,
    bits: Sequence[int] = (2, 4, 8),
    *,
    placement: Placement = "layer_inputs",
    percentile: float | None = None,
    calibration: Calibration = "float",
    clipped: bool = False,
    direction: Direction = "forward",
    mode: Mode = "exact",
    output: Output = None,
    on_layer: Callable[[int, int], None] = lambda done, total: None,
) -> SensitivityTable:
    """Measure Ω_a(k), the mean over images of KL(softmax M(x) ‖ softmax M_a,k(x)), for every activation and width.

    M_a,k quantizes only activation a, to k bits, with the range that it has on the images. Everything else stays float.
    ``exact`` runs the whole network for each activation and width.

    Args:
        model: as in ``sensitivity``; left as it came.
        images: float [N, C, H, W], normalised; all pass through at once.
        bits: candidate widths, any subset of 2…8.
        placement: which activations are quantized, as in ``quantize``.
        percentile, calibration: as in ``calibrate``.
        clipped: ranges are cut to what disturbs the layer behind them least, at each width (``clip_ranges``).
        direction, mode, output: as in ``sensitivity``.
        on_layer: receives (activations done, activations in all).

    Returns:
        Place of the activation × bits → KL in nats, where ``parameters`` counts the values of each activation for one
        image, so that ``allocate(…, average_bits=…)`` gives ``activation_bits`` whose mean over values keeps a budget.
        Rows of activations that no image reaches are 0.

    Raises:
        ZeroQError: bits, images, placement, percentile, calibration, direction, mode or output out of range, nothing to
            compare in the network's output.
    """
    check_images(images)
    widths = check_candidates(bits)
    check_direction(direction)
    check_mode(mode)
    check_percentile(percentile)
    check_calibration(calibration)
    images = images.detach().to(model_device(model), model_dtype(model))
    reading = reading_of(model, images, output)
    shape = shape_of(images)
    model = with_permanent_weights(model)
    quantized = convert(model, FLOAT_BITS, LARGEST_BITS, placement, input_shape=shape)
    calibrate(quantized, images, percentile)
    counts = activation_elements(quantized, images)
    found = activation_quantizers(quantized)
    reached = {place: name for place, name in quantizer_places(quantized).items() if found[name].calibrated}
    parameters: dict[str, list[AffineParameters]] = {place: [] for place in reached}
    for width in widths:
        at_width = convert(model, FLOAT_BITS, width, placement, input_shape=shape)
        calibrate(at_width, images, percentile, calibration)
        if clipped:
            clip_ranges(at_width, model, images, output)
        quantizers = activation_quantizers(at_width)
        for place, name in reached.items():
            quantizer = quantizers[name]
            parameters[place].append(AffineParameters(quantizer.scale, quantizer.zero_point, 0, 2**width - 1))
    places = quantizer_places(quantized)
    probes = {place: Probe() for place in places}
    for place, name in places.items():
        quantized.set_submodule(name, probes[place])
    candidates = Activations(probes, widths, parameters)
    with evaluating(quantized), torch.no_grad():
        if mode == "estimated":
            values = estimates(quantized, images, candidates, on_layer=on_layer, reading=reading)
        else:
            reference = class_scores(quantized, images, reading)
            sums = with_full_forwards(quantized, [images], [reference], candidates, direction, on_layer, reading)
            values = (sums / reading.kind.count(reference)).clamp_min(0).cpu()
    if not values.isfinite().all():
        raise ZeroQError(NOT_FINITE)
    table = pandas.DataFrame(values.numpy(), index=list(probes), columns=list(widths))
    return SensitivityTable.of(table, counts)
