"""From the config's words to a network, its test set and its calibration images."""

from typing import Protocol

import torch

from experiments.config import DataConfig, ModelConfig
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.imagenet import ImageNet
from zeroq.errors import ZeroQError
from zeroq.networks import efficientnet_lite, imagenet, timm_models, torchvision_models, zoo
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

NETWORKS = {
    "embedded": zoo.load,
    "pytorchcv": imagenet.load,
    "efficientnet_lite": efficientnet_lite.load,
    "timm": timm_models.load,
    "torchvision": torchvision_models.load,
}
DATASETS = {FashionMNIST.name: FashionMNIST, ImageNet.name: ImageNet}


class Dataset(Protocol):
    """What every dataset in zeroq.datasets offers."""

    def __len__(self) -> int: ...

    def batches(self, batch_size: int = ...): ...

    def sample(self, count: int, *, seed: int) -> torch.Tensor: ...


def load_network(config: ModelConfig) -> PretrainedNetwork:
    """The pretrained network; raises ZeroQError for an unknown source or architecture."""
    if config.source not in NETWORKS:
        raise ZeroQError(f"model.source must be one of {', '.join(NETWORKS)}, not {config.source!r}")
    return NETWORKS[config.source](config.architecture, config.checkpoint)


def load_dataset(config: DataConfig, specification: InputSpecification, *, train: bool = False) -> Dataset:
    """The split to score on, or the one to draw real calibration images from."""
    if config.name not in DATASETS:
        raise ZeroQError(f"data.name must be one of {', '.join(DATASETS)}, not {config.name!r}")
    return DATASETS[config.name](config.root, specification, train=train)
