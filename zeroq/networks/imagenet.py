"""The paper's ImageNet networks: pytorchcv's checkpoints."""

from pathlib import Path

from pytorchcv.model_provider import get_model
from pytorchcv.models.common.model_store import get_model_name_suffix_data

from zeroq.errors import ZeroQError
from zeroq.networks.checkpoint import load_checkpoint
from zeroq.networks.download import downloading
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

CHECKPOINTS = {
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "resnet152": "resnet152",
    "mobilenetv2": "mobilenetv2_w1",
    "shufflenet": "shufflenet_g1_w1",
    "squeezenext": "sqnxt23_w2",
    "inceptionv3": "inceptionv3",
}
RELEASES = "https://github.com/osmr/imgclsmob/releases/download"
# The share of the shorter side that the centre crop keeps: 256 pixels → 224.
CROP_SHARE = 0.875


def load(architecture: str, checkpoint: Path | None = None) -> PretrainedNetwork:
    """A network with ImageNet weights, or those of a checkpoint, in evaluation mode; pytorchcv downloads once.

    Raises ZeroQError for an unknown architecture, for weights that cannot be downloaded, and for a checkpoint
    that does not fit.
    """
    if architecture not in CHECKPOINTS:
        raise ZeroQError(f"ImageNet has no {architecture!r}; it has {', '.join(CHECKPOINTS)}")
    name = CHECKPOINTS[architecture]
    if checkpoint is not None:
        network = get_model(name)
        load_checkpoint(network, checkpoint)
    else:
        error, sha1, release = get_model_name_suffix_data(name)
        url = f"{RELEASES}/{release}/{name}-{error}-{sha1[:8]}.pth.zip"
        with downloading(name, url=url, folder=Path.home() / ".torch" / "models"):
            network = get_model(name, pretrained=True)
    return PretrainedNetwork(network.eval(), input_specification(network.in_size))


def input_specification(size: tuple[int, int]) -> InputSpecification:
    """ImageNet preprocessing for a network of this input size in pixels."""
    return InputSpecification(
        shape=(3, *size),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resize=round(min(size) / CROP_SHARE),
    )
