"""The bundled zoo: the paper's topologies, narrowed, trained on Fashion-MNIST, weights included.

Each classifier is pytorchcv's own, so that topology and BatchNorm are those of the ImageNet checkpoint, with a
fraction of the channels; the detector is torchvision's (``zeroq.networks.retinanet``). The classifiers' input is
Fashion-MNIST's 28 pixels, enlarged; the fixed final pooling is adaptive. The last strides are 1: with all of them the
last feature maps would be 2 × 2, whose four values leave distillation nothing to match a standard deviation with.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorchcv.model_provider import get_model
from safetensors.torch import load_file
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.networks import retinanet
from zeroq.networks.checkpoint import load_checkpoint
from zeroq.networks.download import sha256
from zeroq.networks.narrow import narrow
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork
from zeroq.networks.pytorchcv_models import CHECKPOINTS

WEIGHTS = Path(__file__).parent / "weights"
CLASSES = 10


@dataclass(frozen=True)
class Bundled:
    """How a bundled classifier differs from the ImageNet one.

    ``narrower``: the divisor of all channel counts. ``unstrided``: convolutions and poolings whose stride is 1.
    ``size``: height and width of the input in pixels.
    """

    narrower: int
    unstrided: tuple[str, ...]
    size: int = 56


def _residual(layer: str) -> tuple[str, ...]:
    """The strided convolutions of the last two stages of a residual network."""
    return tuple(f"stage{stage}.unit1.{name}" for stage in (3, 4) for name in (layer, "identity_conv.conv"))


CLASSIFIERS = {
    "resnet18": Bundled(4, _residual("body.conv1.conv")),
    "resnet50": Bundled(8, _residual("body.conv1.conv")),
    "resnet152": Bundled(8, _residual("body.conv1.conv")),
    "mobilenetv2": Bundled(4, ("stage4.unit1.conv2.conv", "stage5.unit1.conv2.conv")),
    "shufflenet": Bundled(
        2, tuple(f"stage{stage}.unit1.{name}" for stage in (2, 3) for name in ("dw_conv2", "avgpool"))
    ),
    "squeezenext": Bundled(2, _residual("conv1.conv")),
    # 107 pixels make the last map 7 × 7: without padding, every convolution takes some away.
    "inceptionv3": Bundled(
        8,
        (
            *(f"stage2.unit1.branches.{name}" for name in ("branch1.conv_list.conv1.conv", "branch3.pool")),
            *(f"stage3.unit1.branches.{name}" for name in ("branch1.conv_list.conv2.conv", "branch3.pool")),
            "stage2.unit1.branches.branch2.conv_list.conv3.conv",
            "stage3.unit1.branches.branch2.conv_list.conv4.conv",
        ),
        size=107,
    ),
}
DETECTORS = ("retinanet",)
ARCHITECTURES = (*CLASSIFIERS, *DETECTORS)


def input_specification(architecture: str) -> InputSpecification:
    """The input of a bundled network (mean and standard deviation of its training images)."""
    _check_known(architecture)
    if architecture in DETECTORS:
        return retinanet.SCENES
    size = CLASSIFIERS[architecture].size
    return InputSpecification(shape=(1, size, size), mean=(0.286,), std=(0.353,))


def build(architecture: str) -> nn.Module:
    """A bundled network with random weights."""
    _check_known(architecture)
    if architecture in DETECTORS:
        return retinanet.build_bundled()
    bundled = CLASSIFIERS[architecture]
    network: Any = narrow(get_model(CHECKPOINTS[architecture]), bundled.narrower, in_channels=1, classes=CLASSES)
    network.in_size, network.num_classes = (bundled.size, bundled.size), CLASSES
    for name in bundled.unstrided:
        network.features.get_submodule(name).stride = (1, 1)
    network.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return network


def load(architecture: str, checkpoint: Path | None = None, *, weights: Path = WEIGHTS) -> PretrainedNetwork:
    """A bundled network with its trained weights, or those of a checkpoint, in evaluation mode.

    Raises ZeroQError for an unknown architecture, a missing weight file, and one whose sha256 is not
    the recorded one or that was trained in another topology.
    """
    network = build(architecture)
    if checkpoint is None:
        _load_own_weights(network, architecture, weights)
    else:
        load_checkpoint(network, checkpoint)
    detector = retinanet.bundled_detector if architecture in DETECTORS else None
    return PretrainedNetwork(network.eval(), input_specification(architecture), detector)


def topology(network: nn.Module) -> str:
    """Hexadecimal sha256 of a network's layers with their settings (not of its weights)."""
    return hashlib.sha256(repr(network).encode()).hexdigest()


def _load_own_weights(network: nn.Module, architecture: str, weights: Path) -> None:
    path, card_path = weights / f"{architecture}.safetensors", weights / f"{architecture}.json"
    for needed in (path, card_path):
        if not needed.is_file():
            raise ZeroQError(
                f"{needed} is missing; restore it with `git checkout -- {needed}` or train it with `make train-zoo`"
            )
    card = _read_card(card_path)
    # Strides and activations are in no weight file: other ones would score badly without a word.
    for what, actual in {"sha256": sha256(path), "topology": topology(network)}.items():
        if actual != card[what]:
            raise ZeroQError(
                f"{path} has {what} {actual[:12]}… but {card_path.name} records {card[what][:12]}…: the files are "
                f"damaged or half updated; restore both with git or train the network again with `make train-zoo`"
            )
    network.load_state_dict(load_file(path))


def _read_card(path: Path) -> dict[str, str]:
    try:
        card = json.loads(path.read_text())
        return {what: card[what] for what in ("sha256", "topology")}
    except (ValueError, KeyError, TypeError) as error:
        raise ZeroQError(f"{path} is damaged; restore it with `git checkout -- {path}`") from error


def _check_known(architecture: str) -> None:
    if architecture not in ARCHITECTURES:
        raise ZeroQError(f"the bundled zoo has no {architecture!r}; it has {', '.join(ARCHITECTURES)}")
