"""From the config's words to a network, its test set and its calibration images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch

from experiments.core.config import DataConfig, ModelConfig
from zeroq.datasets import coco
from zeroq.datasets.cifar10 import CIFAR10
from zeroq.datasets.coco import COCO
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.datasets.folder import Folder
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
DATASETS = {dataset.name: dataset for dataset in (FashionMNIST, FashionScenes, CIFAR10, ImageNet, Folder, COCO)}
# Of what users bring.
LAYOUTS = {ImageNet.name: ImageNet.check_layout, Folder.name: Folder.check_layout, COCO.name: coco.check_layout}
WITH_CLASSES = ("pytorchcv", "timm", "torchvision", "retinanet")


class Dataset(Protocol):
    """What every dataset in zeroq.datasets offers; those for detection have ``annotations`` in COCO's format too.

    ``classes`` are the outputs of a network for it, None of a class of which the files say it, ``files`` what is read
    while it is scored. ``digest`` changes with files' times too and takes no time; ``content_digest`` is the same
    wherever the data lie, and reads all of them.
    """

    task: str
    classes: int | None
    files: Sequence[Path]

    def __len__(self) -> int: ...

    def digest(self) -> str: ...

    def content_digest(self) -> str: ...

    def batches(self, batch_size: int = ...): ...

    def sample(self, count: int, *, seed: int) -> torch.Tensor: ...


def load_network(config: ModelConfig, data: DataConfig) -> PretrainedNetwork:
    """The pretrained network, with the input that data of one's own say; raises ZeroQError for an unknown one."""
    if config.source == "embedded":
        raise ZeroQError("model.source=embedded is called model.source=bundled now")
    if config.source not in NETWORKS:
        raise ZeroQError(f"model.source must be one of {', '.join(NETWORKS)}, not {config.source!r}")
    classes = {} if config.classes is None else {"classes": config.classes}
    if classes and (config.source not in WITH_CLASSES or config.classes < 1):
        raise ZeroQError(
            "model.classes is the number of classes of your checkpoint for model=pytorchcv, model=timm, "
            "model=torchvision or model=coco/retinanet_resnet50"
        )
    network = NETWORKS[config.source](config.architecture, config.checkpoint, **classes)
    return replace(network, input=data.prepared(network.input))


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
    if dataset.classes is not None:  # before any download
        check_classes(config, dataset.classes, network)
    read = dataset(config.root, network.input, train=train)
    check_classes(config, read.classes, network)
    return read


def check_classes(config: DataConfig, classes: int, network: PretrainedNetwork) -> None:
    """Raise ZeroQError for a network of other classes than the data's; a detector may know more than are in them."""
    outputs = number_of_classes(network)
    if outputs < classes or (outputs > classes and network.detector is None):
        raise ZeroQError(
            f"data {config.name} is for networks of {classes} outputs, this one has {outputs}: choose the data that it "
            f"was trained for, data=…; folders of your own classes are data=folder"
        )


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
