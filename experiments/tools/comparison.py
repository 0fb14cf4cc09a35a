"""Each tool's 8-bit quantization with each kind of calibration images: one JSON file a score, one table of all."""

import json
from importlib import import_module
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import pandas
import torch

from experiments.analysis.cell import Table, frame_of, mean_and_deviation
from experiments.core.progress import console
from experiments.core.record import write_json
from experiments.tools.calibration import COUNT, DATA, LITE, calibration_images, load, score
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.imagenet import ImageNet
from zeroq.evaluation.classification import evaluate

TOOLS = {"onnxruntime": "onnxruntime, static", "nncf": "NNCF (OpenVINO)", "pt2e": "PT2E (torchao)"}
SOURCES = {"gaussian": "Gaussian", "distilled": "Distilled", "real": "Real data*"}
FEET = (
    "W8/A8 by each tool's own defaults, 32 calibration images, mean ± standard deviation over seeds of the images. "
    "Distilled: distill=fast. The layer that gives the scores stays float in onnxruntime; the others quantize its "
    "input and weights, and leave its output in float.",
    "NNCF's defaults give each channel in front of a depthwise convolution a range of its own, which is too narrow for "
    "channels that the calibration images hardly excite.",
    "* needs data: images of the training set, which the sample of ImageNet has none of.",
)


def compare(folder: Path, name: str, seed: int, tools: list[str], photographs: Path) -> None:
    """Score every tool with every kind of images that is not stored yet, and store each.

    Raises ZeroQError for a network that is not offered, ModuleNotFoundError for a tool that is not installed.
    """
    sources = [source for source in SOURCES if name != LITE or source != "real"]
    left = [pair for pair in product(tools, sources) if not path_of(folder, name, seed, *pair).exists()]
    if not left:
        return
    network = load(name)
    test = ImageNet(photographs, network.input) if name == LITE else FashionMNIST(DATA, network.input)
    float_top1 = evaluate(network.module, test.batches()).top1
    images: dict[str, torch.Tensor] = {}
    for tool, source in left:
        module = import_module(f"experiments.tools.with_{tool}")  # imports a package that few need
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
