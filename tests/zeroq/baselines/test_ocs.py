"""OCS on whole networks that are not of the zoo."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.export.integer_arithmetic import integer_arithmetic
from zeroq.methods import method_by_name
from zeroq.quantization.size import parameter_count

SHAPE = (3, 16, 16)
OCS = method_by_name("ocs")


@pytest.fixture
def with_an_outlier() -> nn.Module:
    """A trained network as quantization fears it: one input channel of each layer has weights far beyond the others."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        *(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    )
    model[3].weight.data[:, 4] *= 6
    model[8].weight.data[:, 9] *= 6
    return estimate_statistics(model, SHAPE)


def quantized(
    model: nn.Module, images: torch.Tensor, expansion: float, activation_bits: int = 32, **settings
) -> zeroq.pipeline.QuantizationResult:
    method = replace(OCS, expansion=expansion)
    return zeroq.quantize_by_method(
        model, SHAPE, method, method.settings(4, activation_bits, **settings), images=images
    )


@pytest.mark.parametrize("placement", ["layer_inputs", "integer"])
def test_split_outliers_leave_the_others_their_resolution(with_an_outlier, images, placement):
    with torch.no_grad():
        expected = with_an_outlier(images)
        errors = [
            (quantized(with_an_outlier, images, share, placement=placement).model(images) - expected).square().mean()
            for share in (0, 0.2)
        ]
    assert errors[1] < 0.6 * errors[0]


def test_the_size_has_what_was_added(with_an_outlier, images):
    result = quantized(with_an_outlier, images, 0.1)
    added = 1 * 16 * 9 + 2 * 16 * 9 + 2 * 5
    total = parameter_count(with_an_outlier)
    assert result.report["size_mib"] == pytest.approx((total + added) * 4 / 8 / 2**20)
    assert result.report["fp32_size_mib"] == zeroq.size_mib(with_an_outlier)
    assert result.report["quantized_weight_layers"] == 3
    assert "skipped_steps" not in result.report


def test_every_activation_is_quantized_once_and_a_state_dict_reloads(with_an_outlier, images):
    calls = [
        zeroq.quantize_by_method(with_an_outlier, SHAPE, OCS, OCS.settings(8, 8), images=each)
        for each in (images, -images)
    ]
    assert calls[0].report["quantized_activations"] == 3
    calls[1].model.load_state_dict(calls[0].model.state_dict())
    with torch.no_grad():
        assert torch.equal(calls[0].model(images), calls[1].model(images))


def test_what_is_left_may_be_clipped_too(with_an_outlier, images):
    clipped = quantized(with_an_outlier, images, 0.1, weight_clipping="squared_error").model
    assert (
        clipped.get_submodule("3").weight_scale
        < quantized(with_an_outlier, images, 0.1).model.get_submodule("3").weight_scale
    )


def test_the_file_computes_what_was_simulated(with_an_outlier, images, tmp_path):
    result = quantized(with_an_outlier, images, 0.2, activation_bits=8)
    report = zeroq.export_onnx(result.model, tmp_path / "quantized.onnx", images[:1])
    assert report.file_mib > 0
    integer = quantized(with_an_outlier, images, 0.2, activation_bits=8, placement="integer").model
    expected = integer(images)
    assert torch.allclose(integer_arithmetic(integer)(images), expected, atol=0.02 * expected.abs().max().item())


def test_what_is_not_split_is_said(images):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=3), nn.Flatten(), nn.Linear(864, 5)
    ).eval()
    report = zeroq.quantize_by_method(model, SHAPE, OCS, OCS.settings(4, 8), images=images).report
    assert report["skipped_steps"] == ["outlier channel splitting of layers in groups or not plain: 2"]


@pytest.mark.parametrize(
    ("parts", "settings", "sentence"),
    [
        ({}, {"mixed": True}, "split channels are no part of the size that a plan keeps to"),
        ({"uniform": False}, {"mixed": True}, "split channels are no part of the size that a plan keeps to"),
        ({"steps": method_by_name("dfq").steps}, {}, "leave out the expansion, or DFQ's steps"),
    ],
)
def test_what_does_not_go_together(with_an_outlier, images, parts, settings, sentence):
    method = replace(OCS, **parts)
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.quantize_by_method(with_an_outlier, SHAPE, method, method.settings(4, 8, **settings), images=images)
