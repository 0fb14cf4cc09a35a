"""Mean average precision of detections whose score is known beforehand."""

import copy

import pytest
import torch
from torch import nn

from tests.paths import DATA
from zeroq import ZeroQError
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.evaluation.detection import Detection, evaluate
from zeroq.networks.zoo import input_specification


@pytest.fixture(scope="module")
def scenes() -> FashionScenes:
    return FashionScenes(DATA, input_specification("retinanet"), count=20)


class Told(nn.Module):
    """Says about each scene in turn what it was told to."""

    def __init__(self, outputs: list[dict[str, torch.Tensor]]):
        super().__init__()
        self.outputs = iter(outputs)

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        return [next(self.outputs) for _ in images]


def truth(scenes: FashionScenes) -> list[dict[str, torch.Tensor]]:
    targets = [copy.deepcopy(scenes[index][1]) for index in range(len(scenes))]
    return [target | {"scores": torch.ones(len(target["labels"]))} for target in targets]


def score(outputs: list[dict[str, torch.Tensor]], scenes: FashionScenes) -> Detection:
    return evaluate(Told(outputs), scenes.batches(7), scenes.annotations())


def test_the_truth_scores_one(scenes):
    assert score(truth(scenes), scenes) == Detection(1.0, 1.0, 1.0)


def test_boxes_that_overlap_by_72_percent_pass_five_of_ten_thresholds(scenes):
    outputs = truth(scenes)
    for output in outputs:
        width = output["boxes"][:, 2] - output["boxes"][:, 0]
        output["boxes"][:, 2] -= 0.28 * width
    assert score(outputs, scenes).map == pytest.approx(0.5)
    assert score(outputs, scenes).map75 == 0


def test_wrong_labels_score_nothing(scenes):
    outputs = [output | {"labels": output["labels"] % 10 + 1} for output in truth(scenes)]
    assert score(outputs, scenes).map < 0.05


@pytest.mark.parametrize("kept", [0, 1])
def test_nothing_detected_is_no_error(scenes, kept):
    outputs = [{name: tensor[:0] for name, tensor in output.items()} for output in truth(scenes)]
    outputs[:kept] = truth(scenes)[:kept]
    if kept:
        assert 0 < score(outputs, scenes).map < 0.3
    else:
        assert score(outputs, scenes) == Detection(0.0, 0.0, 0.0)


def test_images_that_no_batch_shows_do_not_count(scenes):
    half = FashionScenes(DATA, scenes.specification, count=10)
    assert evaluate(Told(truth(half)), half.batches(), scenes.annotations()).map == 1.0


def test_images_without_any_object_cannot_be_scored(scenes):
    annotations = scenes.annotations() | {"annotations": []}
    with pytest.raises(ZeroQError, match="no object in the 20 images"):
        evaluate(Told(truth(scenes)), scenes.batches(), annotations)
