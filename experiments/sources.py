"""From the config's words to a network, its test set and its calibration images."""

from typing import Protocol

import torch

from experiments.config import DataConfig, ModelConfig
from zeroq.datasets.cifar10 import CIFAR10
from zeroq.datasets.coco import COCO
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.datasets.imagenet import ImageNet
from zeroq.errors import ZeroQError
from zeroq.networks import efficientnet_lite, imagenet, retinanet, timm_models, torchvision_models, zoo
from zeroq.networks.pretrained import PretrainedNetwork
from zeroq.networks.state import evaluating, model_device

NETWORKS = {
    "embedded": zoo.load,
    "pytorchcv": imagenet.load,
    "efficientnet_lite": efficientnet_lite.load,
    "timm": timm_models.load,
    "torchvision": torchvision_models.load,
    "retinanet": retinanet.load,
}
DATASETS = {dataset.name: dataset for dataset in (FashionMNIST, FashionScenes, CIFAR10, ImageNet, COCO)}
BROUGHT = (ImageNet.name, COCO.name)  # by the user


class Dataset(Protocol):
    """What every dataset in zeroq.datasets offers; those for detection have ``annotations`` in COCO's format too."""

    task: str
    classes: int  # of classification

    def __len__(self) -> int: ...

    def batches(self, batch_size: int = ...): ...

    def sample(self, count: int, *, seed: int) -> torch.Tensor: ...


def load_network(config: ModelConfig) -> PretrainedNetwork:
    """The pretrained network; raises ZeroQError for an unknown source or architecture."""
    if config.source not in NETWORKS:
        raise ZeroQError(f"model.source must be one of {', '.join(NETWORKS)}, not {config.source!r}")
    classes = {} if config.classes is None else {"classes": config.classes}
    return NETWORKS[config.source](config.architecture, config.checkpoint, **classes)


def load_dataset(config: DataConfig, network: PretrainedNetwork, *, train: bool = False) -> Dataset:
    """The split to score on, or the one to draw real calibration images from.

    Raises ZeroQError for an unknown dataset, and for one of another task or with other classes than the network's.
    """
    check_data(config)
    dataset = DATASETS[config.name]
    if dataset.task != network.task:
        fitting = ", ".join(name for name, other in DATASETS.items() if other.task == network.task)
        raise ZeroQError(f"data {config.name} is for {dataset.task}, the network for {network.task}: use {fitting}")
    if network.task == "classification" and (outputs := number_of_outputs(network)) != dataset.classes:
        raise ZeroQError(f"data {config.name} has {dataset.classes} classes, the network {outputs}: choose other data")
    return dataset(config.root, network.input, train=train)


def check_data(config: DataConfig) -> None:
    """Raise ZeroQError for an unknown dataset, and for the missing folder of one that is not downloaded."""
    if config.name not in DATASETS:
        raise ZeroQError(f"data.name must be one of {', '.join(DATASETS)}, not {config.name!r}")
    if config.name in BROUGHT and not config.root.is_dir():
        raise ZeroQError(f"{config.root} is no folder; give the one that holds your copy of {config.name}, data.root=…")


def number_of_outputs(network: PretrainedNetwork) -> int:
    """How many classes a classifier tells apart."""
    image = torch.zeros(1, *network.input.shape, device=model_device(network.module))
    with evaluating(network.module), torch.inference_mode():
        return network.module(image).flatten(1).shape[1]
