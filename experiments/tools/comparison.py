"""Each tool's quantization with each kind of calibration images in each width, scored and stored."""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

from experiments.core.progress import console
from experiments.tools.calibration import COUNT, DATA, LITE, calibration_images, load, score
from experiments.tools.elsewhere import own_images, predictions
from experiments.tools.offered import OWN, TOOLS, widths
from experiments.tools.scores import Run, add, stored
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.imagenet import ImageNet
from zeroq.evaluation.classification import evaluate
from zeroq.networks.pretrained import PretrainedNetwork


def compare(folder: Path, name: str, seed: int, tools: list[str], photographs: Path) -> None:
    """Score every tool with every kind of images in every width that is not stored yet, and store each.

    Raises ZeroQError for a network that is not offered, for scores that are damaged and for an environment that fails,
    ModuleNotFoundError for a tool that is not installed.
    """
    runs = [Run(tool, *run, seed) for tool in tools for run in TOOLS[tool].runs(photographs=name == LITE)]
    done = stored(folder, name)
    if not (left := [run for run in runs if run not in done]):
        return
    network = load(name)
    test = ImageNet(photographs, network.input) if name == LITE else FashionMNIST(DATA, network.input)
    float_top1 = evaluate(network.module, test.batches()).top1
    images: dict[str, torch.Tensor] = {}
    for number, (tool, source, bits, _) in enumerate(left, 1):
        kind = f"{source} images" if source != OWN else f"images of {tool}'s own"
        if kind not in images:
            console.print(f"{name} seed {seed}: {kind}")
            images[kind] = images_of(tool, name, network, source, seed)
        console.print(f"{name} seed {seed}: {tool} {source} {bits} ({number} of {len(left)})")
        top1, versions = quantized_score(tool, name, network, images[kind], test, bits, seed)
        entry = {
            "network": name,
            "tool": tool,
            "images": source,
            "bits": bits,
            "count": COUNT,
            "seed": seed,
            "top1": round(top1, 4),
            "fp32_top1": round(float_top1, 4),
            "versions": versions,
        }
        add(folder, entry)  # what is there counts as done
        console.print(f"  {entry['top1']:.2f} (FP32 {entry['fp32_top1']:.2f})")


def images_of(tool: str, name: str, network: PretrainedNetwork, source: str, seed: int) -> torch.Tensor:
    """Calibration images of one kind, those that a tool makes itself among them."""
    chosen = TOOLS[tool]
    if source != OWN:
        return calibration_images(network, source, seed)
    if chosen.environment is not None:
        return own_images(chosen, name, network, COUNT, seed)
    module = import_module(f"experiments.tools.{chosen.module}")
    return module.generate(network, COUNT, seed=seed, **chosen.options)


def quantized_score(
    tool: str,
    name: str,
    network: PretrainedNetwork,
    images: torch.Tensor,
    test: FashionMNIST | ImageNet,
    bits: str,
    seed: int,
) -> tuple[float, dict[str, str]]:
    """Top-1 accuracy in percent of the network that a tool quantized, and the versions of what ran."""
    chosen = TOOLS[tool]
    if chosen.environment is not None:
        batches, labels = zip(*test.batches(), strict=True)
        found, versions = predictions(chosen, name, network, images, torch.cat(batches), bits, seed)
        return 100 * (found == torch.cat(labels)).double().mean().item(), versions
    module = import_module(f"experiments.tools.{chosen.module}")  # imports a package that few need
    chosen_bits = widths(bits) if len(chosen.bits) > 1 else ()
    quantized = module.quantize(network.module, images, *chosen_bits, **chosen.options)
    versions = {package: version(package) for package in sorted({"torch", chosen.package})}
    return score(quantized, test, f"{name} {tool} {bits}"), versions
