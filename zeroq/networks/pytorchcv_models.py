"""Any classifier of pytorchcv for ImageNet or CIFAR-10, the paper's ImageNet networks among them."""

import math
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

import torch
from pytorchcv.model_provider import _models as known  # no list of the names is public
from pytorchcv.model_provider import get_model
from pytorchcv.models.common.model_store import (
    get_model_file,
    get_model_metainfo_dict,
    get_model_metainfos_file_path,
    imgclsmob_repo_url,
    load_csv,
)
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.networks.checkpoint import load_checkpoint
from zeroq.networks.download import downloading
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

# The paper's names of its networks.
CHECKPOINTS = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnet152": "resnet152",
    "mobilenetv2": "mobilenetv2_w1",
    "shufflenet": "shufflenet_g1_w1",
    "squeezenext": "sqnxt23_w2",
    "inceptionv3": "inceptionv3",
}
UNKNOWN = "NA"  # in pytorchcv's table of its networks
# The share of the shorter side that the centre crop keeps, where pytorchcv names no other: 256 pixels → 224.
CROP_SHARE = 0.875
# What its training and its scores used.
CIFAR10 = InputSpecification(shape=(3, 32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))


def load(architecture: str, checkpoint: Path | None = None, *, classes: int | None = None) -> PretrainedNetwork:
    """A network with pytorchcv's weights, downloaded once, or those of a checkpoint, in evaluation mode.

    ``architecture`` is pytorchcv's name or the paper's. ``classes`` is the number of outputs, where the checkpoint has
    another one than the name says: 10 for ``…_cifar10``, else ImageNet's 1,000.

    Raises ZeroQError for an unknown architecture and for one of other data, for a number of classes that pytorchcv does
    not build it with, for weights that cannot be downloaded, and for a checkpoint that does not fit.
    """
    name = CHECKPOINTS.get(architecture, architecture)
    specification = published_input(name)
    if checkpoint is not None:
        network = build(name, classes)
        load_checkpoint(network, checkpoint)
    else:
        if classes is not None:
            raise ZeroQError(f"pytorchcv has no weights for {classes} classes; give yours, checkpoint=…")
        with downloading(name, url=published_weights(name), folder=Path.home() / ".torch" / "models"):
            path = get_model_file(name)  # whose hash is right
        network = get_model(name)
        load_checkpoint(network, Path(path), ignore_more=True)
    return PretrainedNetwork(network.eval(), specification)


def build(name: str, classes: int | None) -> nn.Module:
    """A network with random weights; raises ZeroQError for a number of classes that pytorchcv does not allow."""
    try:
        return get_model(name, **({} if classes is None else {"num_classes": classes}))
    except AssertionError as error:  # most networks for CIFAR have 10 or 100
        raise ZeroQError(f"pytorchcv builds no {name} with {classes} classes; quantize yours from Python") from error


def published_weights(name: str) -> str:
    """The address of pytorchcv's weights; raises ZeroQError where it has none."""
    _, error, sha1, release = get_model_metainfo_dict().get(name, (0, UNKNOWN, UNKNOWN, UNKNOWN))
    if UNKNOWN in (error, sha1, release):
        raise ZeroQError(f"pytorchcv has no weights of {name}; give yours, checkpoint=…")
    return f"{imgclsmob_repo_url}/releases/download/{release}/{name}-{error}-{sha1[:8]}.pth.zip"


def published_input(name: str) -> InputSpecification:
    """The preprocessing that pytorchcv uses, or for the paper's networks the published code.

    Raises ZeroQError for an unknown name and for a network of other data.
    """
    if name not in known:
        close = get_close_matches(name, known, n=5)
        raise ZeroQError(f"pytorchcv has no {name!r}; similar names: {', '.join(close) or 'none'}")
    if name.endswith("_cifar10"):
        return CIFAR10
    try:
        with torch.device("meta"):
            network = get_model(name)
    # Networks for sound and for films want further packages, or values.
    except (ImportError, NotImplementedError):
        network = None
    if getattr(network, "num_classes", None) != 1000:
        raise ZeroQError(f"pytorchcv's {name} is no classifier for ImageNet or CIFAR-10; quantize it from Python")
    # Of the paper's networks it is InceptionV3 alone that tells them apart: 341 pixels in the published code, 342 here.
    whole = math.floor if name in CHECKPOINTS.values() else math.ceil
    return input_specification(network.in_size, crop_share(name), whole=whole)


def crop_share(name: str) -> float:
    """The share of the shorter side that pytorchcv's scores of an ImageNet network were measured with."""
    title, *rows = load_csv(get_model_metainfos_file_path())
    column = title.index("img_scale")
    return next((float(row[column]) for row in rows if row[0] == name and row[column] != UNKNOWN), CROP_SHARE)


def input_specification(
    size: tuple[int, int], crop_share: float = CROP_SHARE, *, whole: Callable[[float], int] = math.ceil
) -> InputSpecification:
    """ImageNet preprocessing for a network of this input size in pixels; ``whole`` pixels are resized to."""
    return InputSpecification(
        shape=(3, *size),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resize=whole(min(size) / crop_share),
    )
