"""Weights from files, in every format that people keep them in."""

import pytest
import timm
import torch
from pytorchcv.model_provider import get_model
from safetensors.torch import save_file
from torchvision import models
from torchvision.transforms import v2

import zeroq
from zeroq import ZeroQError
from zeroq.networks import download, efficientnet_lite, pytorchcv_models, timm_models, torchvision_models
from zeroq.networks.checkpoint import load_checkpoint, read_state_dict
from zeroq.quantization.convert import activation_quantizers


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
    network = pytorchcv_models.load("mobilenetv2", tmp_path / "weights.pth")
    assert_loaded(network.module, state)
    assert network.input.shape == (3, 224, 224)
    assert not network.module.training


def test_inception_wants_299_pixels(tmp_path):
    torch.save(get_model("inceptionv3").state_dict(), tmp_path / "weights.pth")
    specification = pytorchcv_models.load("inceptionv3", tmp_path / "weights.pth").input
    assert specification.shape == (3, 299, 299)
    assert specification.resize == 341  # as the published code, int(299 / 0.875); pytorchcv itself rounds up


def test_wrapped_by_a_training_program(tmp_path):
    state = randomised(timm.create_model("resnet18"))
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(wrapped, tmp_path / "last.pth.tar")
    network = timm_models.load("resnet18", tmp_path / "last.pth.tar")
    assert_loaded(network.module, state)
    # timm's own preprocessing of this checkpoint.
    assert network.input.interpolation == "bicubic"


def test_averaged_by_torch(tmp_path):
    network = models.resnet18()
    averaged = torch.optim.swa_utils.AveragedModel(network)
    torch.save({"model": {}, "model_ema": averaged.state_dict()}, tmp_path / "model.pth")
    assert_loaded(torchvision_models.load("resnet18", tmp_path / "model.pth").module, network.state_dict())


@pytest.mark.parametrize("architecture", ["inception_v3", "googlenet"])
@pytest.mark.parametrize("auxiliary", [True, False])
def test_auxiliary_heads_are_dropped(tmp_path, architecture, auxiliary):
    trained = models.get_model(architecture, aux_logits=auxiliary, init_weights=False, num_classes=7)
    torch.save(trained.state_dict(), tmp_path / "weights.pth")
    network = torchvision_models.load(architecture, tmp_path / "weights.pth", classes=7).module
    assert not [name for name, _ in network.named_modules() if "aux" in name.lower()]
    images = torch.rand(1, 3, 96, 96)
    assert torch.equal(network(images), trained.eval()(images))
    quantized = zeroq.quantize(network, 8, 8)
    zeroq.calibrate(quantized, images)
    assert all(quantizer.calibrated for quantizer in activation_quantizers(quantized).values())


def test_preprocessing_of_the_weights_that_a_file_is_a_copy_of(tmp_path, monkeypatch):
    path = tmp_path / "renamed.pth"
    torch.save(models.resnet50().state_dict(), path)
    assert torchvision_models.load("resnet50", path).input.resize == 232  # the newest
    # A file with the published sha256 cannot be made here; its first digits stand in each address.
    monkeypatch.setattr(download, "sha256", lambda path: "0676ba61" + 56 * "0")
    assert torchvision_models.load("resnet50", path).input.resize == 256


@pytest.mark.parametrize("architecture", ["inception_v3", "googlenet"])
def test_published_inception_sees_what_torchvision_shows_it(tmp_path, monkeypatch, architecture):
    trained = models.get_model(architecture, aux_logits=True, init_weights=False, transform_input=True).eval()
    path = tmp_path / "weights.pth"
    torch.save(trained.state_dict(), path)
    weights = models.get_model_weights(architecture).DEFAULT
    digits = weights.url.removesuffix(".pth").rpartition("-")[2]
    monkeypatch.setattr(download, "sha256", lambda path: digits)
    found = torchvision_models.load(architecture, path)
    pixels = (255 * torch.rand(2, 3, 342, 400, generator=torch.Generator().manual_seed(0))).to(torch.uint8)
    # Our own preprocessing of the same crop.
    transforms = weights.transforms()
    (side,), (resize,) = transforms.crop_size, transforms.resize_size
    resized = v2.functional.center_crop(v2.functional.resize(pixels, [resize]), [side, side])
    images = v2.functional.normalize(resized / 255, found.input.mean, found.input.std)
    with torch.no_grad():
        expected, scores = trained(transforms(pixels)), found.module(images)
    assert torch.allclose(scores, expected, atol=1e-4 * expected.abs().max().item())
    assert not found.module.transform_input


def test_preprocessing_that_does_not_keep_the_ratio():
    data = {"input_size": (3, 224, 192), "crop_pct": 0.95, "crop_mode": "squash"}
    assert timm_models.resized(data) == (235, 202)
    assert timm_models.resized(data | {"input_size": (3, 224, 224), "crop_mode": "center"}) == 235
    for crop in ("center", "border"):
        with pytest.raises(ZeroQError, match=f"'{crop}' crop of 235 × 202 pixels"):
            timm_models.resized(data | {"crop_mode": crop})


def test_unknown_tag_of_timm():
    with pytest.raises(ZeroQError, match=r"no 'resnet18\.mine'; its weights are .*resnet18\.a1_in1k"):
        timm_models.load("resnet18.mine")
    with pytest.raises(ZeroQError, match=r"no weights of nf_resnet26"):
        timm_models.load("nf_resnet26")


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
    struct_error = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03"
    for content in (b"", b"\x80", b"\x80\x02}q", bytes(100), b"PK\x03\x04", struct_error):
        text.write_bytes(content)
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


@pytest.mark.parametrize("module", [timm_models, torchvision_models, pytorchcv_models, efficientnet_lite])
def test_unknown_architecture(module):
    with pytest.raises(ZeroQError, match="resnet19"):
        module.load("resnet19")
