"""The paper's ImageNet networks: pytorchcv's checkpoints."""

from pytorchcv.model_provider import get_model

from zeroq.errors import ZeroQError
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
# The share of the shorter side that the centre crop keeps: 256 pixels → 224.
CROP_SHARE = 0.875


def load(architecture: str) -> PretrainedNetwork:
    """A network with ImageNet weights, in evaluation mode; pytorchcv downloads them once.

    Raises ZeroQError for an unknown architecture and where the weights cannot be downloaded.
    """
    if architecture not in CHECKPOINTS:
        raise ZeroQError(f"ImageNet has no {architecture!r}; it has {', '.join(CHECKPOINTS)}")
    checkpoint = CHECKPOINTS[architecture]
    try:
        network = get_model(checkpoint, pretrained=True)
    except (OSError, ValueError, RuntimeError, UserWarning) as error:
        raise ZeroQError(
            f"the weights of {checkpoint} could not be downloaded ({error}); connect to the internet once, or copy "
            f"pytorchcv's file for it into ~/.torch/models"
        ) from error
    return PretrainedNetwork(network.eval(), input_specification(network.in_size))


def input_specification(size: tuple[int, int]) -> InputSpecification:
    """ImageNet preprocessing for a network of this input size in pixels."""
    return InputSpecification(
        shape=(3, *size),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        resize=round(min(size) / CROP_SHARE),
    )
