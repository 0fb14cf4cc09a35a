"""What each layer takes in onnxruntime on this machine, in integers and in float, from profiles of exported files."""

import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

import pandas
import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra
from zeroq.export.onnx_file import export_onnx
from zeroq.export.owners import owners_of_kernels, owners_of_words
from zeroq.export.runtime import profile
from zeroq.images import check_images, shape_of
from zeroq.layers import weighted_layers
from zeroq.quantization.affine import FLOAT_BITS, LARGEST_BITS, WeightRange
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import Placement, convert
from zeroq.quantization.permanent_weights import with_permanent_weights

with imported_from_extra():
    import onnx

# Of the times that a kernel took, the slowest are the operating system's.
COUNTED = 0.75


@borrows
def layer_times(
    model: nn.Module,
    images: torch.Tensor,
    *,
    placement: Placement = "layer_inputs",
    per_channel: bool = True,
    symmetric: bool | None = None,
    weight_range: WeightRange = "with_zero",
    threads: int | None = None,
    repetitions: int = 50,
) -> pandas.DataFrame:
    """Milliseconds of each Conv and Linear layer for one image, layer × (8, 32).

    Two files are exported and profiled, with weights of 8 bits and with float ones; activations have 8 bits in both.
    onnxruntime has integer kernels of 8 bits only: narrower weights take the time of 8. A layer's time holds its
    kernel, all calls, and what its kernel asks for: floats of its input or its weights, integers of its output, another
    layout. Pools and sums are no layer's, so that the network takes longer than the sum.

    Args:
        model: a float network that can be exported; left as it came.
        images: float [N, C, H, W], normalised; the first is what is timed, and ranges are those on all.
        placement, per_channel, symmetric, weight_range: as in ``quantize``, since kernels depend on them.
        threads: how many onnxruntime uses, None for as many as PyTorch.
        repetitions: runs of each file; a layer's time is the mean over the faster three quarters.

    Returns:
        Rows of 0 for layers that the images do not reach.

    Raises:
        ZeroQError: images or repetitions out of range, a network that cannot be exported, a profile that does not name
            every layer.
    """
    check_images(images)
    if not isinstance(repetitions, int) or repetitions < 1:
        raise ZeroQError(f"repetitions must be a whole number from 1 on, not {repetitions}")
    model = with_permanent_weights(model)
    names = list(weighted_layers(model))
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for bits in (LARGEST_BITS, FLOAT_BITS):
            quantized = convert(
                *(model, bits, LARGEST_BITS, placement),
                per_channel=per_channel,
                symmetric=symmetric,
                weight_range=weight_range,
                input_shape=shape_of(images),
            )
            calibrate(quantized, images)
            path = export_onnx(quantized, Path(folder) / f"{bits}.onnx", images[:1]).path
            words = owners_of_words(onnx.load(path).graph, names)
            graph, kernels = profile(path, images[:1], threads=threads, repetitions=repetitions)
            times[bits] = times_of_layers(kernels, owners_of_kernels(graph, words), names, repetitions)
    return pandas.DataFrame(times, index=pandas.Index(names, name="layer"))


def times_of_layers(
    kernels: Iterable[tuple[str, float]], owners: dict[str, str], names: list[str], repetitions: int
) -> dict[str, float]:
    """Milliseconds of each layer from a profile's (kernel, milliseconds) and each kernel's layer."""
    taken: dict[str, list[float]] = defaultdict(list)
    for kernel, milliseconds in kernels:
        if kernel in owners:
            taken[kernel].append(milliseconds)
    totals = dict.fromkeys(names, 0.0)
    for kernel, found in taken.items():
        # A kernel of the same name may run several times in each repetition.
        counted = sorted(found)[: max(1, round(COUNTED * len(found)))]
        totals[owners[kernel]] += fmean(counted) * len(found) / repetitions
    return totals
