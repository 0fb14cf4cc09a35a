"""What runs in a tool's own environment: it answers the request that ``experiments.tools.elsewhere`` left in a folder.

    python -m experiments.tools.worker FOLDER

Of the project it imports only what needs no more than PyTorch, torchvision and pytorchcv.
"""

import json
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from zeroq.networks import zoo

BATCH = 250


def main(folder: Path) -> None:
    request = json.loads((folder / "request.json").read_text())
    network = zoo.build(request["architecture"]).eval()
    network.load_state_dict(load_file(folder / "network.safetensors"))
    torch.manual_seed(request["seed"])
    module = import_module(f"experiments.tools.{request['module']}")
    tensors = load_file(folder / "tensors.safetensors")
    answer = classes(module, network, tensors, request) if tensors else own_images(module, network, request)
    save_file(answer, folder / "answer.safetensors")
    versions = {package: version(package) for package in ("torch", request["package"])}
    (folder / "versions.json").write_text(json.dumps(versions))


def classes(
    module: Any, network: nn.Module, tensors: dict[str, torch.Tensor], request: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """The quantized network's class of every test image."""
    bits = request["weight_bits"], request["activation_bits"]
    quantized = module.quantize(network, tensors["images"], *bits, **request["options"])
    with torch.no_grad():
        return {"classes": torch.cat([quantized(batch).argmax(1) for batch in tensors["test"].split(BATCH)])}


def own_images(module: Any, network: nn.Module, request: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The images that the tool makes itself."""
    return {"images": module.generate(network, request["count"], **request["input"]).contiguous()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
