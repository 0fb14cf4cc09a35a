"""One network quantized by one tool, from the command line of that tool's file."""

import sys
from collections.abc import Callable

from torch import nn

from experiments.core.progress import console
from experiments.tools.calibration import DATA, NETWORKS, calibration_images, load, score
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.errors import ZeroQError
from zeroq.evaluation.classification import evaluate
from zeroq.export.calibration_set import read_calibration_set

Quantize = Callable[..., nn.Module]  # (network, images [N, C, H, W], options) → the quantized network


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
