"""Other tools' 8-bit quantization with distilled images, with noise and with real images, all scored alike.

    pip install -r requirements-tools.txt
    python -m experiments.other_tools [tools=onnxruntime,nncf,pt2e] [networks=fashion/resnet18,…] [seeds=0,1,2]
                                      [imagenet=FOLDER] [results=FOLDER]

Photographs in ImageNet's layout, in the folder ``imagenet``, are for networks=imagenet/efficientnet_lite0. What is done
already is skipped. Scores lie in results/other_tools, and beside them their table.
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import nn

from experiments.analysis.cell import Table, frame_of, mean_and_deviation
from experiments.cli.words import output_folder, results_arguments
from experiments.core.progress import console, progress_bar
from experiments.core.record import write_json
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.imagenet import ImageNet
from zeroq.distillation.fast import distill_fast
from zeroq.errors import ZeroQError
from zeroq.evaluation.classification import evaluate
from zeroq.export.calibration_set import read_calibration_set
from zeroq.images import gaussian_images
from zeroq.networks import efficientnet_lite, zoo
from zeroq.networks.pretrained import PretrainedNetwork

TOOLS = {"onnxruntime": "onnxruntime, static", "nncf": "NNCF (OpenVINO)", "pt2e": "PT2E (torchao)"}
SOURCES = {"gaussian": "Gaussian", "distilled": "Distilled", "real": "Real data*"}
NETWORKS = ("fashion/resnet18", "fashion/mobilenetv2")
WORDS = ("tools", "networks", "seeds", "imagenet")
LITE = "imagenet/efficientnet_lite0"
COUNT, DATA = 32, Path("data")
FEET = (
    "W8/A8 by each tool's own defaults, 32 calibration images, mean ± standard deviation over seeds of the images. "
    "Distilled: distill=fast. The layer that gives the scores stays float in onnxruntime; the others quantize its "
    "input and weights, and leave its output in float.",
    "NNCF's defaults give each channel in front of a depthwise convolution a range of its own, which is too narrow for "
    "channels that the calibration images hardly excite.",
    "* needs data: images of the training set, which the sample of ImageNet has none of.",
)

Quantize = Callable[..., nn.Module]  # (network, images [N, C, H, W], options) → the quantized network


def main() -> None:
    results, told = results_arguments(sys.argv[1:], __doc__, WORDS)
    tools = told.get("tools", ",".join(TOOLS)).split(",")
    networks = told.get("networks", ",".join(NETWORKS)).split(",")
    if unknown := [tool for tool in tools if tool not in TOOLS]:
        sys.exit(f"error: there is no tool {unknown[0]!r}; they are {', '.join(TOOLS)}")
    folder = output_folder(results / "other_tools")
    try:
        seeds = [int(seed) for seed in told.get("seeds", "0,1,2").split(",")]
        for name, seed in product(networks, seeds):
            compare(folder, name, seed, tools, Path(told.get("imagenet", "data/imagenet")))
        tools_table(folder).write(folder / "table")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed; pip install -r requirements-tools.txt")
    except (ZeroQError, ValueError) as error:
        sys.exit(f"error: {error}")


def compare(folder: Path, name: str, seed: int, tools: list[str], photographs: Path) -> None:
    """Score every tool with every kind of images that is not stored yet, and store each."""
    sources = [source for source in SOURCES if name != LITE or source != "real"]
    left = [pair for pair in product(tools, sources) if not path_of(folder, name, seed, *pair).exists()]
    if not left:
        return
    network = load(name)
    test = ImageNet(photographs, network.input) if name == LITE else FashionMNIST(DATA, network.input)
    float_top1 = evaluate(network.module, test.batches()).top1
    images: dict[str, torch.Tensor] = {}
    for tool, source in left:
        module = import_module(f"experiments.with_{tool}")
        if source not in images:
            images[source] = calibration_images(network, source, seed)
        entry = {
            "network": name,
            "tool": tool,
            "images": source,
            "count": COUNT,
            "seed": seed,
            "top1": round(score(module.quantize(network.module, images[source]), test, f"{name} {tool} {source}"), 4),
            "fp32_top1": round(float_top1, 4),
            "versions": {package: version(package) for package in sorted({"torch", module.PACKAGE})},
        }
        write_json(path_of(folder, name, seed, tool, source), entry)  # what is there counts as done
        console.print(f"{name} {tool} {source} seed {seed}: {entry['top1']:.2f} (FP32 {entry['fp32_top1']:.2f})")


def path_of(folder: Path, name: str, seed: int, tool: str, source: str) -> Path:
    """Where one score is stored."""
    return folder / f"{name.replace('/', '-')},{tool},{source},seed={seed}.json"


def load(name: str) -> PretrainedNetwork:
    """A network of the bundled zoo, or EfficientNet-Lite0."""
    source, _, architecture = name.partition("/")
    if name == LITE:
        return efficientnet_lite.load(architecture)
    if source != "fashion":
        raise ZeroQError(f"networks are those of the bundled zoo, fashion/…, and {LITE}, not {name!r}")
    return zoo.load(architecture)


def calibration_images(network: PretrainedNetwork, source: str, seed: int) -> torch.Tensor:
    """``COUNT`` images [N, C, H, W] of one kind."""
    if source == "gaussian":
        return gaussian_images(network.input.shape, COUNT, seed=seed)
    if source == "real":
        return FashionMNIST(DATA, network.input, train=True).sample(COUNT, seed=seed)
    return distill_fast(network.module, network.input.shape, COUNT, seed=seed)


def score(model: nn.Module, test: FashionMNIST | ImageNet, name: str) -> float:
    """Top-1 accuracy in percent."""
    done = 0
    with progress_bar(name) as progress:

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            progress(done, len(test))

        return evaluate(model, test.batches(), on_batch).top1


def demonstrate(quantize: Quantize, usage: str) -> None:
    """Quantize one network with a tool, with the images of a folder or distilled ones, and print its score."""
    given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    if not given.keys() <= {"model", "images"} or not all(given.values()):
        print(usage)
        sys.exit(0 if "--help" in sys.argv[1:] else 2)
    try:
        network = load(given.get("model", NETWORKS[0]))
        folder = given.get("images")
        images = read_calibration_set(folder) if folder else calibration_images(network, "distilled", 0)
        test = FashionMNIST(DATA, network.input)
        top1 = score(quantize(network.module, images), test, "evaluate")
        console.print(f"{top1:.2f} top-1 (FP32 {evaluate(network.module, test.batches()).top1:.2f})")
    except ZeroQError as error:
        sys.exit(f"error: {error}")


def tools_table(folder: Path) -> Table:
    """The table of all that is stored."""
    frame = pandas.DataFrame([json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))])
    rows: list[dict[str, Any]] = []
    for (network, tool), same in frame.groupby(["network", "tool"], sort=False):
        row = {"Network": network, "Tool": TOOLS[tool], "FP32": f"{same.fp32_top1.iloc[0]:.2f}"}
        for source, title in SOURCES.items():
            row[title] = mean_and_deviation(same[same.images == source].top1, "top1")
        rows.append(row)
    rows.sort(key=lambda row: (row["Network"], list(TOOLS.values()).index(row["Tool"])))
    return Table("Other tools, by their calibration images. Top-1 accuracy (%)", frame_of(rows), FEET)


if __name__ == "__main__":
    main()
