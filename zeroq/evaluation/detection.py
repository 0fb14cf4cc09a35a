"""COCO's mean average precision."""

import contextlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, cast

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.modules import evaluating, model_device
from zeroq.parallel import all_gather


@dataclass(frozen=True)
class Detection:
    """Mean average precision (0…1) at IoU 0.50:0.95, at 0.50 and at 0.75."""

    map: float
    map50: float
    map75: float

    metric: ClassVar = "map"

    @property
    def value(self) -> float:
        """The headline number."""
        return self.map


def evaluate(
    detector: nn.Module,
    batches: Iterable[tuple[list[torch.Tensor], list[int]]],
    annotations: dict[str, Any],
    on_batch: Callable[[int], None] = lambda images: None,
) -> Detection:
    """Score a detector of torchvision's kind on (images, image ids) batches.

    Args:
        detector: takes a list of float images [C, H, W] in [0, 1]; gives each ``boxes`` [n, 4] as (left, top, right,
            bottom) in pixels, ``labels`` (category ids) and ``scores``.
        annotations: the content of a COCO JSON file; images that no batch shows are left out.
        on_batch: receives the number of images after each batch.

    In a process group each process scores its share of the batches, as the data sets give it, and receives the score of
    all.
    """
    device = model_device(detector)
    seen: list[list[int]] = []
    found: list[list[dict[str, Any]]] = []
    with evaluating(detector), torch.inference_mode():
        for images, identifiers in batches:
            outputs = detector([image.to(device) for image in images])
            pairs = zip(identifiers, outputs, strict=True)
            found.append([each for identifier, output in pairs for each in coco_detections(identifier, output)])
            seen.append(identifiers)
            on_batch(len(identifiers))
    return mean_average_precision(annotations, list(chain(*all_gather(found))), list(chain(*all_gather(seen))))


def coco_detections(identifier: int, output: dict[str, torch.Tensor]) -> list[dict[str, Any]]:
    """One image's detections in COCO's result format."""
    boxes = output["boxes"].cpu().double()
    boxes[:, 2:] -= boxes[:, :2]
    columns = boxes.tolist(), output["labels"].tolist(), output["scores"].tolist()
    return [
        {"image_id": identifier, "category_id": label, "bbox": box, "score": score}
        for box, label, score in zip(*columns, strict=True)
    ]


def mean_average_precision(annotations: dict[str, Any], found: list[dict[str, Any]], image_ids: list[int]) -> Detection:
    """pycocotools' score of detections in COCO's result format; 0 where nothing was detected.

    Raises ZeroQError where the annotations hold no object in these images.
    """
    if not {annotation["image_id"] for annotation in annotations["annotations"]}.intersection(image_ids):
        raise ZeroQError(f"the annotations hold no object in the {len(image_ids)} images, so there is nothing to find")
    if not found:  # pycocotools raises an IndexError
        return Detection(0.0, 0.0, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = cast(Any, annotations)
        truth.createIndex()
        scoring = COCOeval(truth, truth.loadRes(found), "bbox")
        scoring.params.imgIds = image_ids
        scoring.evaluate()
        scoring.accumulate()
        scoring.summarize()
    return Detection(*(float(value) for value in scoring.stats[:3]))
