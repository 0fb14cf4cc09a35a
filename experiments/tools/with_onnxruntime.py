"""onnxruntime's own static quantization, calibrated with a calibration set.

    python -m experiments.tools.with_onnxruntime model=fashion/mobilenetv2 images=FOLDER

``images`` is a folder from ``zeroq.export_calibration_set``; without it, images are distilled.
"""

import tempfile
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from experiments.tools.demonstration import demonstrate
from zeroq.export.calibration_reader import CalibrationReader
from zeroq.export.onnx_file import export_float_onnx
from zeroq.export.runtime import OnnxNetwork

MOVING = ("Reshape", "Flatten", "Squeeze")


def quantize(module: nn.Module, images: torch.Tensor, weight_bits: int = 8, activation_bits: int = 8) -> nn.Module:
    """Weights of 8 or 4 bits per channel, activations of 8 per tensor, ranges min–max over the images."""
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, file = (Path(folder) / f"{name}.onnx" for name in ("float", "prepared", "quantized"))
        export_float_onnx(module, plain, images)
        quant_pre_process(plain, prepared)
        quantize_static(
            prepared,
            file,
            CalibrationReader(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.from_string(f"QUInt{activation_bits}"),
            weight_type=QuantType.from_string(f"QInt{weight_bits}"),
            # Else the scores themselves would be cut off at the largest that calibration images have.
            nodes_to_exclude=[last_layer(prepared)],
        )
        return OnnxNetwork(file)


def last_layer(path: Path) -> str:
    """The node that computes a network's first output."""
    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    node = makers[graph.output[0].name]
    while node.op_type in MOVING:
        node = makers[node.input[0]]
    return node.name


if __name__ == "__main__":
    demonstrate(quantize, __doc__)
