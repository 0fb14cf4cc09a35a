"""Torchvision's detectors taken apart: what has weights as a network of its own, and the rest put around it again.

Distillation, sensitivity and quantization see a network of normalised images. Normalising, resizing, anchors, the
choice of boxes and non-maximum suppression stay in Python, around that network or its quantized copy.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_convert, clip_boxes_to_image

from zeroq.borrowing import copied
from zeroq.errors import ZeroQError
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

# Regions of each size along each axis of an image, on which the second stage's layers are looked at.
REGIONS = 4


class OneStage(nn.Module):
    """Backbone and head of RetinaNet, FCOS or SSD: normalised images [N, C, H, W] → what its head says of them.

    ``pyramid`` are the feature maps that anchors are laid over, ``cls_logits`` [N, anchors, classes] each class's
    logit, ``bbox_regression`` [N, anchors, 4] and, of FCOS, ``bbox_ctrness`` [N, anchors, 1]. Where the classes of an
    anchor share a softmax, as SSD's do, ``out`` [N, classes, anchors, 1] has the class scores instead.
    """

    def __init__(self, detector: RetinaNet | FCOS | SSD):
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head
        self.softmax = isinstance(detector, SSD)

    def forward(self, images: Tensor) -> dict[str, Tensor | list[Tensor]]:
        pyramid = list(_levels(self.backbone(images)).values())
        found = self.head(pyramid)
        if self.softmax:
            found = {**found, "out": found["cls_logits"].transpose(1, 2).unsqueeze(3)}
            del found["cls_logits"]
        return {"pyramid": pyramid, **found}


class TwoStages(nn.Module):
    """Faster R-CNN's layers: normalised images [N, C, H, W] → ``objectness`` and ``bbox_deltas`` of each level, and
    of regions of the image ``out`` [N, classes, regions, 1], their class scores, and ``bbox_regression``.

    Which regions the detector looks at depends on what its first stage says. Here they are squares of the anchors'
    sizes, evenly over the image, so that networks are compared by the same ones.
    """

    def __init__(self, detector: FasterRCNN):
        super().__init__()
        self.backbone = detector.backbone
        self.rpn = nn.ModuleDict({"head": detector.rpn.head})
        heads = {"box_head": detector.roi_heads.box_head, "box_predictor": detector.roi_heads.box_predictor}
        self.roi_heads = nn.ModuleDict(heads)
        self.pool = detector.roi_heads.box_roi_pool
        self.sizes = [size for level in detector.rpn.anchor_generator.sizes for size in level]

    def forward(self, images: Tensor) -> dict[str, Tensor | list[Tensor]]:
        pyramid = _levels(self.backbone(images))
        objectness, deltas = self.rpn["head"](list(pyramid.values()))
        count = len(images)
        side: Any = tuple(images.shape[2:])
        regions = _regions(side, self.sizes).to(images)
        pooled = self.pool(pyramid, [regions] * count, [side] * count)
        logits, boxes = self.roi_heads["box_predictor"](self.roi_heads["box_head"](pooled))
        return {
            "objectness": objectness,
            "bbox_deltas": deltas,
            "out": logits.unflatten(0, (count, -1)).transpose(1, 2).unsqueeze(3),
            "bbox_regression": boxes.unflatten(0, (count, -1)),
        }


def take_apart(detector: nn.Module) -> PretrainedNetwork:
    """A detector's layers as a network, the input it was trained on, and what puts the detector around it again.

    ``zero_shot_quantize`` takes ``module`` with ``input.shape``; ``detector(result.model)`` is a detector as
    torchvision's own, and is as quantized as that. It is a new one, in evaluation mode; the layers of ``module`` are
    those of the one that is given, in the mode that they are in. A quantized graph, as placement ``integer`` makes, or
    a file as ``OnnxNetwork`` fit one-stage detectors; of Faster R-CNN, whose stages have Python code between them,
    there is no graph.

    Raises ZeroQError for anything but torchvision's RetinaNet, FCOS, SSD (SSDLite) and Faster R-CNN.
    """
    network: nn.Module
    around: Callable[[nn.Module], nn.Module]
    if isinstance(detector, RetinaNet | FCOS | SSD):
        network, around = OneStage(detector), partial(_around_one_stage, detector)
    elif type(detector) is FasterRCNN:
        network, around = TwoStages(detector), partial(_around_two_stages, detector)
    else:
        kind = type(detector).__name__
        raise ZeroQError(f"only torchvision's RetinaNet, FCOS, SSD and Faster R-CNN can be taken apart, not {kind}")
    transform: Any = detector.transform
    width, height = transform.fixed_size or (max(transform.min_size),) * 2
    mean, std = tuple(transform.image_mean), tuple(transform.image_std)
    resize = None if transform.fixed_size else height
    return PretrainedNetwork(network, InputSpecification((len(mean), height, width), mean, std, resize), around)


class RawPyramid(nn.Module):
    """The backbone of a detector around a network with the outputs of ``OneStage``, which may be a graph or a file."""

    out_channels = None  # only needed to build a head

    def __init__(self, raw: nn.Module):
        super().__init__()
        self.raw = raw

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        self.outputs = self.raw(images)
        return dict(enumerate(self.outputs["pyramid"]))


class RawHead(nn.Module):
    """The head of such a detector: what the network that is its backbone said of the same images."""

    def __init__(self, backbone: RawPyramid):
        super().__init__()
        self.backbone = backbone

    def forward(self, pyramid: list[Tensor]) -> dict[str, Tensor]:
        found = {name: each for name, each in self.backbone.outputs.items() if name != "pyramid"}
        if "out" in found:
            found["cls_logits"] = found.pop("out").squeeze(3).transpose(1, 2)
        return found

    def compute_loss(self, *arguments: Any) -> dict[str, Tensor]:
        """In training, of a network that has its own head."""
        head: Any = self.backbone.raw.head
        return head.compute_loss(*arguments)


def _around_one_stage(detector: RetinaNet | FCOS | SSD, raw: nn.Module) -> nn.Module:
    backbone = RawPyramid(raw)
    return copied(detector, {detector.backbone: backbone, detector.head: RawHead(backbone)}).eval()


def _around_two_stages(detector: FasterRCNN, raw: Any) -> nn.Module:
    heads = detector.roi_heads
    instead = {
        detector.backbone: raw.backbone,
        detector.rpn.head: raw.rpn["head"],
        heads.box_head: raw.roi_heads["box_head"],
        heads.box_predictor: raw.roi_heads["box_predictor"],
    }
    return copied(detector, instead).eval()


def _levels(features: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    """The feature maps by name, also of a backbone that gives one alone."""
    return features if isinstance(features, dict) else {"0": features}


def _regions(side: tuple[int, int], sizes: list[float]) -> Tensor:
    """Boxes [regions, 4] (x and y of two corners, in pixels): squares of each size around the same centres."""
    height, width = side
    steps = (torch.arange(REGIONS) + 0.5) / REGIONS
    centres = torch.cartesian_prod(steps * width, steps * height)
    boxes = torch.cat([torch.cat([centres, torch.full_like(centres, size)], 1) for size in sizes])
    return clip_boxes_to_image(box_convert(boxes, "cxcywh", "xyxy"), side)
