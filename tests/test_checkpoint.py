"""Weights from files, in every format that people keep them in."""

import pytest
import timm
import torch
from pytorchcv.model_provider import get_model
from safetensors.torch import save_file
from torchvision import models

from zeroq import ZeroQError
from zeroq.networks import efficientnet_lite, imagenet, timm_models, torchvision_models
from zeroq.networks.checkpoint import load_checkpoint, read_state_dict


def randomised(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A state dict that no constructor makes by itself."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }


def assert_loaded(network: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    loaded = network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_pytorchcv_state_dict(tmp_path):
    state = randomised(get_model("mobilenetv2_w1"))
    torch.save(state, tmp_path / "weights.pth")
    network = imagenet.load("mobilenetv2", tmp_path / "weights.pth")
    assert_loaded(network.module, state)
    assert network.input.shape == (3, 224, 224)
    assert not network.module.training


def test_inception_wants_299_pixels(tmp_path):
    torch.save(get_model("inceptionv3").state_dict(), tmp_path / "weights.pth")
    specification = imagenet.load("inceptionv3", tmp_path / "weights.pth").input
    assert specification.shape == (3, 299, 299)
    assert specification.resize == 342


def test_wrapped_by_a_training_program(tmp_path):
    state = randomised(timm.create_model("resnet18"))
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(wrapped, tmp_path / "last.pth.tar")
    network = timm_models.load("resnet18", tmp_path / "last.pth.tar")
    assert_loaded(network.module, state)
    # timm's own preprocessing of this checkpoint.
    assert network.input.interpolation == "bicubic"


def test_torchvision_as_safetensors(tmp_path):
    state = randomised(models.mobilenet_v2())
    save_file(state, tmp_path / "weights.safetensors")
    network = torchvision_models.load("mobilenet_v2", tmp_path / "weights.safetensors")
    assert_loaded(network.module, state)
    assert network.input.shape == (3, 224, 224)
    assert network.input.resize == 232


def test_frozen_batch_norm_without_counters(tmp_path):
    state = {k: v for k, v in randomised(models.resnet18()).items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "frozen.pth")
    network = models.resnet18()
    load_checkpoint(network, tmp_path / "frozen.pth")
    assert_loaded(network, state)


def test_another_architecture_lists_names(tmp_path):
    torch.save(models.resnet18().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ZeroQError, match=r"does not fit MobileNetV2: \d+ missing \(classifier.*unexpected \(bn1\.bias"):
        torchvision_models.load("mobilenet_v2", tmp_path / "weights.pth")
    other = models.resnet18(num_classes=10)
    with pytest.raises(ZeroQError, match=r"2 of another shape \(fc\.bias, fc\.weight\)"):
        load_checkpoint(other, tmp_path / "weights.pth")


def test_files_that_are_no_checkpoints(tmp_path):
    text = tmp_path / "weights.pth"
    text.write_text("not weights")
    with pytest.raises(ZeroQError, match="no checkpoint that can be read safely"):
        read_state_dict(text)
    with pytest.raises(ZeroQError, match="cannot be read: No such file"):
        read_state_dict(tmp_path / "missing.pth")
    torch.save(models.resnet18(), tmp_path / "pickled.pth")  # a pickled network is code
    with pytest.raises(ZeroQError, match=r"save the weights alone"):
        read_state_dict(tmp_path / "pickled.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ZeroQError, match="holds no weights"):
        read_state_dict(tmp_path / "empty.pth")


def test_efficientnet_lite_from_its_package():
    network = efficientnet_lite.load()
    assert network.input.interpolation == "bicubic"
    running = network.module.state_dict()["bn1.running_var"]
    assert not torch.equal(running, torch.ones_like(running))


@pytest.mark.parametrize("load", [timm_models.load, torchvision_models.load, imagenet.load, efficientnet_lite.load])
def test_unknown_architecture(load):
    with pytest.raises(ZeroQError, match="resnet19"):
        load("resnet19")
