"""NNCF's post-training quantization for OpenVINO, calibrated with a calibration set.

    pip install -r requirements-tools.txt
    python -m experiments.tools.with_nncf model=fashion/mobilenetv2 images=FOLDER

``images`` is a folder from ``zeroq.export_calibration_set``; without it, images are distilled.
"""

import copy
import logging

import nncf
import openvino
import torch
from nncf.quantization.advanced_parameters import QuantizationParameters
from torch import nn

from experiments.tools.demonstration import demonstrate


class Compiled(nn.Module):
    """An OpenVINO model on the CPU: images [N, C, H, W] → its first output."""

    def __init__(self, model: openvino.Model):
        super().__init__()
        self.model = openvino.compile_model(model, "CPU")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.model(images.contiguous().numpy())[0])


def quantize(module: nn.Module, images: torch.Tensor, *, per_channel_activations: bool = True) -> nn.Module:
    """An 8-bit network by NNCF's defaults, which also correct biases with the images.

    By default the activations in front of depthwise convolutions have a range a channel, all others one a tensor;
    ``per_channel_activations=False`` gives those in front of depthwise convolutions one a tensor too.
    """
    nncf.set_log_level(logging.ERROR)
    network = copy.deepcopy(module).eval().to(memory_format=torch.contiguous_format)
    model = openvino.convert_model(network, example_input=images[:1])
    model.reshape([-1, *images.shape[1:]])
    data = nncf.Dataset([image[None].numpy() for image in images])
    ranges = None if per_channel_activations else QuantizationParameters(per_channel=False)
    advanced = nncf.AdvancedQuantizationParameters(activations_quantization_params=ranges)
    return Compiled(nncf.quantize(model, data, subset_size=len(images), advanced_parameters=advanced))


if __name__ == "__main__":
    demonstrate(quantize, __doc__)
