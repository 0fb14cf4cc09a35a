"""Weights that layers compute at every forward are quantized as what they come to."""

from dataclasses import replace

import pytest
import timm
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.models import nfnet, resnetv2
from torch import nn
from torch.nn import functional, utils
from torch.nn.utils import parametrizations, prune

import zeroq
from tests.networks import SubclassedConv, estimate_statistics
from tests.zeroq.test_contract import assert_untouched, awkward, snapshot
from zeroq.export.runtime import OnnxNetwork
from zeroq.layers import is_affine, weighted_layers
from zeroq.quantization.permanent_weights import SamePadded, permanent, with_permanent_weights

SHAPE = (3, 16, 16)
COMPUTING = {
    "standardized": lambda: StdConv2d(4, 6, 3, stride=2, bias=True),
    "standardized, one size": lambda: StdConv2dSame(4, 6, 3, stride=2, dilation=2),
    "scaled": lambda: ScaledStdConv2d(4, 6, 3, groups=2, gamma=1.7, gain_init=0.4),
    "scaled, one size": lambda: ScaledStdConv2dSame(4, 6, (3, 5), stride=(2, 3)),
    "scaled, padded evenly": lambda: ScaledStdConv2dSame(4, 6, 5),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(4, 6, 3)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(4, 6, 3)),
    "two at once": lambda: parametrizations.weight_norm(ScaledStdConv2d(4, 6, 3)),
    "weight norm by a hook": lambda: utils.weight_norm(nn.ConvTranspose2d(4, 6, 3)),
    "spectral norm by a hook": lambda: utils.spectral_norm(nn.Conv2d(4, 6, 3, bias=False)),
    "pruned": lambda: prune.random_unstructured(nn.Conv2d(4, 6, 3), "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's hooks are deprecated
@pytest.mark.parametrize("make", COMPUTING.values(), ids=COMPUTING)
def test_a_layer_becomes_one_that_holds_its_weight(make):
    torch.manual_seed(0)
    layer = awkward(nn.Sequential(nn.Conv2d(3, 4, 1), make()))[1]
    layer.eval().register_forward_hook(lambda layer, inputs, output: output + 1)
    images = [torch.randn(2, 4, *size) for size in ((17, 20), (16, 13))]
    with torch.no_grad():
        expected = [layer(each) for each in images]
    before = snapshot(layer)
    found = permanent(layer)
    assert_untouched(layer, before)
    assert type(found) in (nn.Conv2d, nn.ConvTranspose2d, SamePadded)
    assert set(found.state_dict()) <= {"weight", "bias"}
    with torch.no_grad():
        for each, output in zip(images, expected, strict=True):
            torch.testing.assert_close(found(each), output)
            torch.testing.assert_close(layer(each), output)
    found._forward_hooks.clear()
    assert isinstance(found, nn.ConvTranspose2d) or is_affine(found)


class ByInput(nn.Conv2d):
    """With a weight that depends on the input."""

    def forward(self, x):
        return functional.conv2d(x, self.weight * x.mean(), self.bias)


class Twice(nn.Conv2d):
    """With an activation behind, and a weight that is computed."""

    def forward(self, x):
        return functional.conv2d(x, self.weight.tanh(), self.bias).relu()


class Two(nn.Conv2d):
    """With two convolutions."""

    def forward(self, x):
        return functional.conv2d(x, 2 * self.weight) + functional.conv2d(x, 3 * self.weight)


class Unusual(nn.Conv2d):
    """That takes two inputs."""

    def forward(self, x, scale):
        return functional.conv2d(x, scale * self.weight)


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame, SamePadded, SubclassedConv, ByInput, Twice, Two, Unusual])
def test_other_layers_stay_as_they_are(kind):
    model = nn.Sequential(kind(4, 6, 3))
    assert with_permanent_weights(model) is model


def test_a_layer_without_a_weight_is_left_to_the_sentence_about_it():
    layer = ByInput(4, 6, 3)
    layer.weight = None
    with pytest.raises(zeroq.ZeroQError, match="computes its weight at every forward"):
        zeroq.quantize(nn.Sequential(layer))


def test_a_forward_of_an_instance_is_not_lost():
    layer = nn.Conv2d(4, 6, 3)
    layer.forward = lambda x: functional.conv2d(x, layer.weight.tanh(), layer.bias).relu()
    assert permanent(layer) is None
    layer.forward = lambda x: functional.conv2d(x, layer.weight.tanh(), layer.bias)
    assert torch.equal(permanent(layer).weight, layer.weight.tanh())


class Residual(nn.Module):
    """Standardized weights, one of them used twice, a norm of a weight's, a stride with TensorFlow's padding."""

    def __init__(self):
        super().__init__()
        self.stem = ScaledStdConv2dSame(3, 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.inner = nn.ModuleList([ScaledStdConv2d(8, 8, 3, bias=False)])
        self.again = self.inner[0]
        self.head = parametrizations.weight_norm(nn.Linear(8, 5))

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.inner[0](x)) + x
        return self.head((torch.relu(self.again(x)) + x).mean((2, 3)))


def residual(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return estimate_statistics(Residual(), SHAPE)


def test_a_network_computes_the_same_under_the_same_names(images):
    model = awkward(residual())
    before = snapshot(model)
    found = with_permanent_weights(model)
    assert_untouched(model, before)
    assert list(weighted_layers(found)) == ["stem", "inner.0", "head"]
    assert found.again is found.inner[0]
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(images), model.eval()(images))


@pytest.mark.parametrize("rounding", ["nearest", "compensated"])
@pytest.mark.parametrize("placement", ["layer_inputs", "integer"])
def test_what_is_multiplied_with_lies_on_the_grid(images, rounding, placement):
    how = {"images": images} if rounding != "nearest" else {"input_shape": SHAPE}
    quantized = zeroq.quantize(residual(), 3, 32, placement, rounding=rounding, **how)
    for layer in weighted_layers(quantized).values():
        assert all(len(channel.unique()) <= 2**3 for channel in layer.weight)
        assert type(layer).__bases__[1] in (nn.Conv2d, nn.Linear, SamePadded)
    float_weights = weighted_layers(with_permanent_weights(residual()))
    for name, layer in weighted_layers(quantized).items():
        assert (layer.weight - float_weights[name].weight).abs().max() < 2 * layer.weight_scale.max()


def test_all_that_is_measured_is_of_the_weights_that_are_used(images):
    model = residual()
    plain = with_permanent_weights(model)
    assert zeroq.size_mib(model, 4) == zeroq.size_mib(plain, 4)
    assert zeroq.multiply_accumulates(model, images) == zeroq.multiply_accumulates(plain, images)
    for mode in ("exact", "estimated"):
        found, expected = (zeroq.sensitivity(network, images, mode=mode) for network in (model, plain))
        assert (found - expected).abs().to_numpy().max() <= 1e-6 * expected.to_numpy().max()
        assert found.to_numpy().min() > 0


@pytest.mark.parametrize("method", ["gaussian", "zeroq+", "dfq", "naive"])
def test_every_method_quantizes_what_is_used_and_its_result_reloads(images, method):
    model = awkward(residual())
    before = snapshot(model)
    distilled = {"count": 4, "iterations": 2} if method.startswith("zeroq") else {}
    result = zeroq.zero_shot_quantize(model, SHAPE, 8, 8, False, method=method, **distilled)
    assert_untouched(model, before)
    with torch.no_grad():
        scores, expected = result.model(images), model.eval()(images)
    assert (scores - expected).abs().mean() < 0.1 * expected.abs().mean()
    fresh = zeroq.zero_shot_quantize(residual(1), SHAPE, 8, 8, False, method=method, **distilled).model
    fresh.load_state_dict(result.model.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(images), scores)


def test_an_exported_file_computes_with_the_weights_that_are_used(images, tmp_path):
    quantized = zeroq.quantize(residual(), 8, 8, "integer", input_shape=SHAPE)
    zeroq.calibrate(quantized, images)
    report = zeroq.export_onnx(quantized, tmp_path / "network.onnx", images)
    assert not report.float_layers
    with torch.no_grad():
        expected = quantized(images)
    assert (OnnxNetwork(report.path)(images) - expected).abs().max() < 0.05 * expected.abs().max()


NARROW = {"depths": (1, 1, 1, 1), "channels": (32, 64, 96, 128), "group_size": 8}
TIMM = {
    "nf_regnet_b0": (lambda: timm.create_model("nf_regnet_b0", num_classes=7), {nn.Conv2d, nn.Linear}),
    "BiT": (lambda: resnetv2.ResNetV2([1, 1, 1, 1], num_classes=7, stem_type="fixed"), {nn.Conv2d}),
    "DeepMind's": (
        lambda: nfnet.NormFreeNet(replace(nfnet.model_cfgs["dm_nfnet_f0"], **NARROW), num_classes=7),
        {nn.Conv2d, SamePadded, nn.Linear},
    ),
}


@pytest.mark.parametrize(("make", "kinds"), TIMM.values(), ids=TIMM)
def test_timm_s_networks_with_standardized_weights(make, kinds):
    torch.manual_seed(0)
    model = make().eval()
    found = with_permanent_weights(model)
    assert {type(layer) for layer in weighted_layers(found).values()} == kinds
    photographs = torch.randn(2, 3, 65, 78)
    with torch.no_grad():
        torch.testing.assert_close(found(photographs), model(photographs))
