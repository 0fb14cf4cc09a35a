"""What becomes of one architecture: quantized, exported, compared; run as a process of its own."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from sysconfig import get_path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import zeroq
from experiments.architectures.listed import architectures, made, smooth_images
from zeroq.errors import ZeroQError
from zeroq.export.integer_arithmetic import integer_arithmetic
from zeroq.export.runtime import OnnxNetwork
from zeroq.layers import WEIGHTED_LAYERS
from zeroq.settings import Settings
from zeroq.zero_shot import quantize_with_dfq

IMAGES = 8


def survey(architecture: str, side: int) -> dict[str, Any]:
    """The row of one architecture: for each way either what came of it or the sentence that refused it."""
    network, shape = made(architecture, side), (3, side, side)
    images = smooth_images(IMAGES, side, torch.Generator().manual_seed(2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    row: dict[str, Any] = {"architecture": architecture, "side": side}
    row["layers"] = sum(isinstance(module, WEIGHTED_LAYERS) for module in network.modules())
    row["zero_shot"] = outcome(
        lambda: zeroq.zero_shot_quantize(network, shape, 8, 8, False, method="zeroq", count=2, iterations=2) and "done"
    )
    row["integer"] = outcome(lambda: exported(network, shape, images))
    dfq = Settings(8, 8, mixed=False, per_channel=False, bias_correction="analytic")
    row["dfq"] = outcome(lambda: quantize_with_dfq(network, shape, dfq) and "done")
    row["untouched"] = all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    return row


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, or why it did not; ``error`` is a sentence, ``fault`` is none of the library's own."""
    try:
        return call()
    except ZeroQError as error:
        return {"error": str(error).replace(f"{get_path('purelib')}/", "")}
    except Exception as error:
        return {"fault": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def exported(network: nn.Module, shape: tuple[int, int, int], images: torch.Tensor) -> dict[str, Any]:
    """Placement ``integer``: the layers that run in float, and how far apart file, integer arithmetic and float are."""
    quantized = zeroq.quantize(network, 8, 8, "integer", input_shape=shape)
    zeroq.calibrate(quantized, images)
    with TemporaryDirectory() as folder, torch.no_grad():
        report = zeroq.export_onnx(quantized, Path(folder) / "file.onnx", images[:2])
        outputs = [each(images) for each in (network, integer_arithmetic(quantized, shape), OnnxNetwork(report.path))]
    expected, integers, found = (torch.cat([each.flatten() for each in tree_leaves(output)]) for output in outputs)
    largest = expected.abs().max()
    return {
        "float_layers": report.float_layers,
        "first_difference": report.first_difference and report.first_difference.node,
        "file_from_integers": digits(((found - integers).abs().max() / largest).item()),
        "file_from_float": digits(((found - expected).abs().max() / largest).item()),
    }


def digits(value: float) -> float:
    """The three that anybody looks at."""
    return float(f"{value:.3g}")


if __name__ == "__main__":
    _, name = sys.argv
    print(json.dumps(survey(name, architectures()[name])))
