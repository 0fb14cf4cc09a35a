"""What every tool is given, and how every one is scored: networks, calibration images, top-1 accuracy."""

from pathlib import Path

import torch
from torch import nn

from experiments.core.progress import progress_bar
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.imagenet import ImageNet
from zeroq.distillation.fast import distill_fast
from zeroq.errors import ZeroQError
from zeroq.evaluation.classification import evaluate
from zeroq.images import gaussian_images
from zeroq.networks import efficientnet_lite, zoo
from zeroq.networks.pretrained import PretrainedNetwork

NETWORKS = ("fashion/resnet18", "fashion/mobilenetv2")
LITE = "imagenet/efficientnet_lite0"
COUNT, DATA = 32, Path("data")


def load(name: str) -> PretrainedNetwork:
    """A network of the bundled zoo, or EfficientNet-Lite0; raises ZeroQError for another."""
    source, _, architecture = name.partition("/")
    if name == LITE:
        return efficientnet_lite.load(architecture)
    if source != "fashion":
        raise ZeroQError(f"networks are those of the bundled zoo, fashion/…, and {LITE}, not {name!r}")
    return zoo.load(architecture)


def calibration_images(network: PretrainedNetwork, source: str, seed: int) -> torch.Tensor:
    """``COUNT`` images [N, C, H, W] of one kind: gaussian, real or distilled."""
    if source == "gaussian":
        return gaussian_images(network.input.shape, COUNT, seed=seed)
    if source == "real":
        return FashionMNIST(DATA, network.input, train=True).sample(COUNT, seed=seed)
    return distill_fast(network.module, network.input.shape, COUNT, seed=seed)


def score(model: nn.Module, test: FashionMNIST | ImageNet, name: str) -> float:
    """Top-1 accuracy in percent; ``name`` is what the progress bar says."""
    done = 0
    with progress_bar(name) as progress:

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            progress(done, len(test))

        return evaluate(model, test.batches(), on_batch).top1
