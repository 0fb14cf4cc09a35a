"""The paper's networks at their real input size, from the command line, with weights made on the spot.

Slow: `make test-all`. Random weights with BatchNorm statistics of noise, a checkpoint in the public format, and a
folder of synthetic photographs stand in for what has to be downloaded.
"""

import json
from pathlib import Path

import pytest
import torch
from pytorchcv.model_provider import get_model
from timm.data import ImageNetInfo
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn

from tests.zeroq.datasets.photographs import save
from zeroq.datasets.imagenet import ImageNet
from zeroq.networks.detectors import OneStage
from zeroq.networks.pytorchcv_models import CHECKPOINTS

pytestmark = pytest.mark.slow

# Convolutions and Linear layers.
LAYERS = {
    "resnet18": 21,
    "resnet50": 54,
    "resnet152": 156,
    "mobilenetv2": 54,
    "shufflenet": 50,
    "squeezenext": 112,
    "inceptionv3": 95,
}
QUICK = ("bits=mp4a8", "bits.candidates=[2,8]", "distill.count=1", "distill.iterations=3", "tracker=disabled")


def with_statistics_of_noise(network: nn.Module, shape: tuple[int, int, int]) -> nn.Module:
    """BatchNorm statistics of two noise images in a network with random weights."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean
    network.train()
    with torch.no_grad():
        network(torch.randn(2, *shape))
    return network.eval()


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("imagenet")
    for index, wordnet_id in enumerate(ImageNetInfo().label_names()):
        save(root / "val" / wordnet_id / "image.JPEG", index % 256)
    return root


@pytest.mark.parametrize("architecture", CHECKPOINTS)
def test_classifier(architecture, command, outputs, imagenet, tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = get_model(CHECKPOINTS[architecture])
    size = 299 if architecture == "inceptionv3" else 224
    torch.save(with_statistics_of_noise(network, (3, size, size)).state_dict(), tmp_path / "weights.pth")
    whole = ImageNet.batches
    monkeypatch.setattr(ImageNet, "batches", lambda self: [next(whole(self, 4))])
    arguments = (f"model=imagenet/{architecture}", f"model.checkpoint={tmp_path / 'weights.pth'}")
    assert command(*arguments, f"data.root={imagenet}", "force=true", *QUICK) == 0
    (folder,) = (outputs / "runs").glob(f"imagenet-{architecture},*")
    record = json.loads((folder / "record.json").read_text())
    assert record["model"] == f"imagenet/{architecture}"
    assert record["quantized_weight_layers"] == record["quantized_activations"] == LAYERS[architecture]
    assert record["mean_weight_bits"] <= 4
    assert set(record["plan"].values()) <= {2, 8}
    assert record["distill_loss"] > 0
    assert record["unreached_activations"] == []


def test_detector(command, outputs, tmp_path):
    torch.manual_seed(0)
    network = retinanet_resnet50_fpn(weights=None, weights_backbone=None)
    with_statistics_of_noise(OneStage(network), (3, 256, 256))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = [{"id": number, "file_name": f"{number:012}.jpg", "width": 640, "height": 480} for number in (1, 2)]
    box = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [100, 100, 200, 200], "area": 40_000, "iscrowd": 0}
    content = {"images": images, "annotations": [box], "categories": [{"id": 3, "name": "car"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    for image in images:
        save(tmp_path / "val2017" / image["file_name"], 100, size=(640, 480))
    arguments = ("model=coco/retinanet_resnet50", f"model.checkpoint={tmp_path / 'weights.pth'}")
    assert command(*arguments, f"data.root={tmp_path}", *QUICK) == 0
    (folder,) = (outputs / "runs").glob("coco-retinanet_resnet50,*")
    record = json.loads((folder / "record.json").read_text())
    assert record["quantized_weight_layers"] == record["quantized_activations"] == 71
    assert (record["metric"], record["images"]) == ("map", 2)
    assert 0 <= record["value"] <= 1
    assert record["unreached_activations"] == []
