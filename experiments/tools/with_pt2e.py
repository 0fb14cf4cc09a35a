"""PyTorch's PT2E quantization (torchao) for x86, calibrated with a calibration set.

    pip install -r requirements-tools.txt
    python -m experiments.tools.with_pt2e model=fashion/mobilenetv2 images=FOLDER

``images`` is a folder from ``zeroq.export_calibration_set``; without it, images are distilled.
"""

import copy

import torch
from torch import nn
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
    X86InductorQuantizer,
    get_default_x86_inductor_quantization_config,
)

from experiments.tools.demonstration import demonstrate


def quantize(module: nn.Module, images: torch.Tensor) -> nn.Module:
    """An 8-bit network by the defaults for x86, with integers simulated as PT2E does before it is compiled."""
    network = copy.deepcopy(module).eval().to(memory_format=torch.contiguous_format)
    batch = ({0: torch.export.Dim("batch")},)
    graph = torch.export.export(network, (images[:2],), dynamic_shapes=batch).module()
    quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(graph, quantizer)
    with torch.no_grad():
        prepared(images)
    return Exported(move_exported_model_to_eval(convert_pt2e(prepared)))


class Exported(nn.Module):
    """An exported graph, which is in evaluation mode already and refuses to be told so."""

    def __init__(self, graph: nn.Module):
        super().__init__()
        self.graph = [graph]  # not a submodule

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.graph[0](images)


if __name__ == "__main__":
    demonstrate(quantize, __doc__)
