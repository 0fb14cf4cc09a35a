"""A tool in its own environment: network, images and request go there as files, and its answer comes back as one."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from experiments.tools.environment import ROOT, python_of
from experiments.tools.offered import Tool, widths
from zeroq.errors import ZeroQError
from zeroq.networks.pretrained import PretrainedNetwork

LOGS = Path("outputs/other_tools")


def predictions(
    tool: Tool, name: str, network: PretrainedNetwork, images: torch.Tensor, test: torch.Tensor, bits: str, seed: int
) -> tuple[torch.Tensor, dict[str, str]]:
    """The class of each test image, int64 [N], by a network that a tool quantized; and the versions of what ran."""
    weight_bits, activation_bits = widths(bits)
    request = {
        "seed": seed,
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "options": dict(tool.options),
    }
    answer, versions = _ask(tool, name, network, request, {"images": images, "test": test})
    return answer["classes"], versions


def own_images(tool: Tool, name: str, network: PretrainedNetwork, count: int, seed: int) -> torch.Tensor:
    """Images [count, C, H, W] that a tool makes from the network alone."""
    request = {"seed": seed, "count": count, "input": network.input.__dict__}
    return _ask(tool, name, network, request, {})[0]["images"]


def _ask(
    tool: Tool,
    name: str,
    network: PretrainedNetwork,
    request: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Run ``experiments.tools.worker`` on a folder with the files of a request; raises ZeroQError where it fails."""
    python = python_of(tool.environment)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name.replace('/', '-')},{tool.module}.log"
    with TemporaryDirectory() as place, log.open("w") as lines:
        folder = Path(place)
        whole = dict(request) | {"module": tool.module, "package": tool.package, "architecture": name.partition("/")[2]}
        (folder / "request.json").write_text(json.dumps(whole))
        save_file(network.module.state_dict(), folder / "network.safetensors")
        copies = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
        save_file(copies, folder / "tensors.safetensors")  # which refuses tensors that share memory
        command = [python, "-m", "experiments.tools.worker", folder]
        if subprocess.run(command, cwd=ROOT, stdout=lines, stderr=subprocess.STDOUT).returncode:
            raise ZeroQError(f"{tool.title} failed on {name}; {log} has its own words")
        return load_file(folder / "answer.safetensors"), json.loads((folder / "versions.json").read_text())
