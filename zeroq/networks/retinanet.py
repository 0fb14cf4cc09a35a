"""RetinaNet with a ResNet50-FPN backbone: torchvision's for COCO, and a narrow one for the bundled zoo.

Both are taken apart (``zeroq.networks.detectors``): backbone, pyramid and heads are the network.
"""

from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import ResNet, resnet50
from torchvision.models.detection import RetinaNet, RetinaNet_ResNet50_FPN_Weights, retinanet_resnet50_fpn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from zeroq.errors import ZeroQError
from zeroq.networks.checkpoint import load_checkpoint, read_state_dict
from zeroq.networks.detectors import OneStage, RawHead, RawPyramid, take_apart
from zeroq.networks.download import is_published, published_file
from zeroq.networks.narrow import narrow
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

ARCHITECTURE = "retinanet_resnet50"
WEIGHTS = RetinaNet_ResNet50_FPN_Weights.COCO_V1
COCO_CLASSES = 91  # with the background and the numbers that COCO left out

# The bundled one: as deep, with a fraction of the channels, for Fashion scenes.
NARROWER = 8
PYRAMID_CHANNELS = 64
SCENE_CLASSES = 11  # with the background
SMALLEST_ANCHOR = 16  # pixels, on the finest level
SCENES = InputSpecification(shape=(1, 128, 128), mean=(0.312,), std=(0.231,))


class RawRetinaNet(OneStage):
    """The layers of the bundled one, under the name by which its card and its records know it."""


def detector_around(raw: nn.Module, **settings: Any) -> RetinaNet:
    """RetinaNet's pre- and post-processing, with these settings, around a raw network."""
    backbone = RawPyramid(raw)
    return RetinaNet(backbone, num_classes=None, head=RawHead(backbone), **settings).eval()


def load(
    architecture: str = ARCHITECTURE, checkpoint: Path | None = None, *, classes: int | None = None
) -> PretrainedNetwork:
    """torchvision's RetinaNet with its COCO weights, or those of a checkpoint, in evaluation mode.

    ``classes`` is the number of outputs, the background's among them, where the checkpoint has another one than COCO's.

    Raises ZeroQError for another architecture, for weights that cannot be downloaded, and for a checkpoint that
    does not fit.
    """
    if architecture != ARCHITECTURE:
        raise ZeroQError(f"the only COCO detector is {ARCHITECTURE}, not {architecture!r}")
    if checkpoint is None:
        if classes is not None:
            raise ZeroQError(f"torchvision has no weights for {classes} classes; give yours, checkpoint=…")
        checkpoint = published_file(ARCHITECTURE, WEIGHTS.url)
    return take_apart(_from_checkpoint(checkpoint, classes or COCO_CLASSES).eval())


def build_bundled() -> RawRetinaNet:
    """The bundled zoo's detector with random weights."""
    body = narrow(resnet50(), NARROWER, in_channels=1, classes=SCENE_CLASSES)
    return RawRetinaNet(_assemble(body, PYRAMID_CHANNELS, SCENE_CLASSES))


def bundled_detector(raw: nn.Module) -> RetinaNet:
    """The bundled network with its pre- and post-processing, for scenes as float [1, 128, 128] in [0, 1]."""
    size = SCENES.shape[1]
    octave = [2 ** (third / 3) for third in range(3)]
    sizes = tuple(tuple(SMALLEST_ANCHOR * 2**level * part for part in octave) for level in range(5))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    return detector_around(
        raw, min_size=size, max_size=size, image_mean=SCENES.mean, image_std=SCENES.std, anchor_generator=anchors
    )


def _assemble(body: ResNet, channels: int, classes: int) -> RetinaNet:
    """RetinaNet as torchvision builds it, around a residual network of any width."""
    stages = ("layer2", "layer3", "layer4")
    widths = [body.get_submodule(stage)[-1].conv3.out_channels for stage in stages]
    levels = {stage: str(level) for level, stage in enumerate(stages)}
    pyramid = BackboneWithFPN(body, levels, widths, channels, extra_blocks=LastLevelP6P7(channels, channels))
    return RetinaNet(pyramid, classes)


def _from_checkpoint(path: Path, classes: int) -> RetinaNet:
    """torchvision's network with a file's weights, and with the kind of BatchNorm that the file was written from."""
    if any(name.endswith("num_batches_tracked") for name in read_state_dict(path)):
        network = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=classes)
    else:
        network = _assemble(resnet50(norm_layer=FrozenBatchNorm2d), 256, classes)
        if is_published(path, WEIGHTS.url):
            # No file says so, but torchvision's own weights were trained before FrozenBatchNorm had an epsilon.
            for module in network.modules():
                if isinstance(module, FrozenBatchNorm2d):
                    module.eps = 0.0
    load_checkpoint(network, path)
    return network
