"""From the config's words to a network, its test set and its calibration images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from experiments.core.config import DataConfig, ModelConfig
from zeroq.datasets import coco
from zeroq.datasets import imagenet as imagenet_photographs
from zeroq.datasets.cifar10 import CIFAR10
from zeroq.datasets.coco import COCO
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.datasets.imagenet import ImageNet
from zeroq.errors import ZeroQError
from zeroq.mixed_precision.outputs import class_scores
from zeroq.modules import evaluating
from zeroq.networks import efficientnet_lite, pytorchcv_models, retinanet, timm_models, torchvision_models, zoo
from zeroq.networks.pretrained import PretrainedNetwork

NETWORKS = {
    "bundled": zoo.load,
    "pytorchcv": pytorchcv_models.load,
    "efficientnet_lite": efficientnet_lite.load,
    "timm": timm_models.load,
    "torchvision": torchvision_models.load,
    "retinanet": retinanet.load,
}
DATASETS = {dataset.name: dataset for dataset in (FashionMNIST, FashionScenes, CIFAR10, ImageNet, COCO)}
LAYOUTS = {ImageNet.name: imagenet_photographs.check_layout, COCO.name: coco.check_layout}  # of what users bring


class Dataset(Protocol):
    """What every dataset in zeroq.datasets offers; those for detection have ``annotations`` in COCO's format too.

    ``classes`` are the outputs of a network for it, ``files`` what is read while it is scored. ``digest`` changes with
    files' times too and takes no time; ``content_digest`` is the same wherever the data lie, and reads all of them.
    """

    task: str
    classes: int
    files: Sequence[Path]

    def __len__(self) -> int: ...

    def digest(self) -> str: ...

    def content_digest(self) -> str: ...

    def batches(self, batch_size: int = ...): ...

    def sample(self, count: int, *, seed: int) -> torch.Tensor: ...


def load_network(config: ModelConfig) -> PretrainedNetwork:
    """The pretrained network; raises ZeroQError for an unknown source or architecture."""
    if config.source == "embedded":
        raise ZeroQError("model.source=embedded is called model.source=bundled now")
    if config.source not in NETWORKS:
        raise ZeroQError(f"model.source must be one of {', '.join(NETWORKS)}, not {config.source!r}")
    classes = {} if config.classes is None else {"classes": config.classes}
    if classes and (config.source not in ("pytorchcv", "timm", "torchvision") or config.classes < 1):
        raise ZeroQError(
            "model.classes is the number of classes of your checkpoint for model=pytorchcv, model=timm or "
            "model=torchvision"
        )
    return NETWORKS[config.source](config.architecture, config.checkpoint, **classes)


def load_dataset(config: DataConfig, network: PretrainedNetwork, *, train: bool = False) -> Dataset:
    """The split to score on, or the one to draw real calibration images from.

    Raises ZeroQError for an unknown or incomplete dataset, and for one of another task or with other classes than the
    network's.
    """
    check_data(config, train=train)
    dataset = DATASETS[config.name]
    if dataset.task != network.task:
        fitting = ", ".join(name for name, other in DATASETS.items() if other.task == network.task)
        raise ZeroQError(f"data {config.name} is for {dataset.task}, the network for {network.task}: use {fitting}")
    if (outputs := number_of_classes(network)) != dataset.classes:
        raise ZeroQError(
            f"data {config.name} is for networks of {dataset.classes} outputs, this one has {outputs}: choose the data "
            f"that it was trained for, data=…; where none here is, quantize and score it from Python"
        )
    return dataset(config.root, network.input, train=train)


def check_data(config: DataConfig, *, train: bool = False) -> None:
    """Raise ZeroQError for an unknown dataset, and for one that is not downloaded and not where it should be."""
    if config.name not in DATASETS:
        raise ZeroQError(f"data.name must be one of {', '.join(DATASETS)}, not {config.name!r}")
    if config.name in LAYOUTS:
        if not config.root.is_dir():
            raise ZeroQError(
                f"{config.root} is no folder; give the one that holds your copy of {config.name}, data.root=…"
            )
        LAYOUTS[config.name](config.root, train=train)


def number_of_classes(network: PretrainedNetwork) -> int:
    """How many classes a network tells apart; a detector's background counts."""
    with evaluating(network.module), torch.inference_mode():
        return class_scores(network.module, torch.zeros(1, *network.input.shape)).shape[-1]
