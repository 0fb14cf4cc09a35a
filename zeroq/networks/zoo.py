"""The embedded zoo: the paper's topologies, narrowed, trained on Fashion-MNIST, weights included.

Each network is built by pytorchcv's own class, so that topology and BatchNorm are those of the ImageNet
checkpoint. Channels are fewer, the input is 1 × 56 × 56 (Fashion-MNIST's 28 pixels, doubled), and the fixed
7 × 7 final pooling is adaptive. The last strides are 1: with all of them the last feature maps would be 2 × 2,
whose four values leave distillation nothing to match a standard deviation with.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from pytorchcv.models.mobilenetv2 import MobileNetV2
from pytorchcv.models.resnet import ResNet
from safetensors.torch import load_file
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.networks.checkpoint import load_checkpoint
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

WEIGHTS = Path(__file__).parent / "weights"
CLASSES = 10
SIZE = 56


def _resnet18() -> nn.Module:
    return ResNet(
        channels=[[16, 16], [32, 32], [64, 64], [128, 128]],
        init_block_channels=16,
        bottleneck=False,
        conv1_stride=False,
        in_channels=1,
        in_size=(SIZE, SIZE),
        num_classes=CLASSES,
    )


def _mobilenetv2() -> nn.Module:
    return MobileNetV2(
        channels=[[4], [6] * 2, [8] * 3, [16] * 4 + [24] * 3, [40] * 3 + [80]],
        init_block_channels=8,
        final_block_channels=320,
        remove_exp_conv=False,
        in_channels=1,
        in_size=(SIZE, SIZE),
        num_classes=CLASSES,
    )


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "resnet18": _resnet18,
    "mobilenetv2": _mobilenetv2,
}

# Convolutions whose stride is 1 here: the last feature maps are 7 × 7, as on ImageNet.
UNSTRIDED = {
    "resnet18": (
        "stage3.unit1.body.conv1.conv",
        "stage3.unit1.identity_conv.conv",
        "stage4.unit1.body.conv1.conv",
        "stage4.unit1.identity_conv.conv",
    ),
    "mobilenetv2": ("stage4.unit1.conv2.conv", "stage5.unit1.conv2.conv"),
}


def input_specification(architecture: str) -> InputSpecification:
    """The input of an embedded network (Fashion-MNIST's training mean and standard deviation)."""
    _check_known(architecture)
    return InputSpecification(shape=(1, SIZE, SIZE), mean=(0.286,), std=(0.353,))


def build(architecture: str) -> nn.Module:
    """An embedded network with random weights."""
    _check_known(architecture)
    network = ARCHITECTURES[architecture]()
    for name in UNSTRIDED[architecture]:
        network.features.get_submodule(name).stride = (1, 1)
    network.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return network


def load(architecture: str, checkpoint: Path | None = None, *, weights: Path = WEIGHTS) -> PretrainedNetwork:
    """An embedded network with its trained weights, or those of a checkpoint, in evaluation mode.

    Raises ZeroQError for an unknown architecture, a missing weight file, and one whose sha256 is not
    the recorded one or that was trained in another topology.
    """
    network = build(architecture)
    if checkpoint is not None:
        load_checkpoint(network, checkpoint)
        return PretrainedNetwork(network.eval(), input_specification(architecture))
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
    return PretrainedNetwork(network.eval(), input_specification(architecture))


def topology(network: nn.Module) -> str:
    """Hexadecimal sha256 of a network's layers with their settings (not of its weights)."""
    return hashlib.sha256(repr(network).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_card(path: Path) -> dict[str, str]:
    try:
        card = json.loads(path.read_text())
        return {what: card[what] for what in ("sha256", "topology")}
    except (ValueError, KeyError, TypeError) as error:
        raise ZeroQError(f"{path} is damaged; restore it with `git checkout -- {path}`") from error


def _check_known(architecture: str) -> None:
    if architecture not in ARCHITECTURES:
        raise ZeroQError(f"the embedded zoo has no {architecture!r}; it has {', '.join(ARCHITECTURES)}")
