"""OMSE on whole networks that are not of the zoo."""

import pytest
import torch
from torch import nn

import zeroq
from zeroq.export.integer_arithmetic import integer_arithmetic
from zeroq.layers import weighted_layers
from zeroq.methods import method_by_name
from zeroq.quantization.convert import activation_quantizers

SHAPE = (3, 16, 16)


def weight_errors(quantized: nn.Module, model: nn.Module) -> dict[str, float]:
    originals = weighted_layers(model)
    return {
        name: (layer.weight - originals[name].weight).square().sum().item()
        for name, layer in weighted_layers(quantized).items()
    }


def test_weights_alone(hand_written):
    """The paper's own setting: activations stay float."""
    result = zeroq.zero_shot_quantize(hand_written, SHAPE, 3, 32, method="omse", count=2, iterations=2)
    assert result.report["quantized_activations"] == 0
    nearest = zeroq.quantize(hand_written, 3, 32)
    found, before = (weight_errors(each, hand_written) for each in (result.model, nearest))
    assert all(found[name] < before[name] for name in found)


@pytest.mark.parametrize("placement", ["layer_inputs", "integer"])
def test_activations_are_closer_than_with_min_max_ranges(hand_written, images, placement):
    method = method_by_name("omse")
    results = [
        zeroq.quantize_by_method(
            hand_written, SHAPE, method, method.settings(8, 3, placement=placement, clipping=clipping), images=images
        )
        for clipping in ("squared_error", "none")
    ]
    seen: dict[str, torch.Tensor] = {}
    for name, quantizer in activation_quantizers(results[1].model).items():
        quantizer.register_forward_pre_hook(lambda module, inputs, name=name: seen.setdefault(name, inputs[0]))
    with torch.no_grad():
        results[1].model(images)
    errors = [
        {
            name: (quantizer(seen[name]) - seen[name]).square().sum().item()
            for name, quantizer in activation_quantizers(result.model).items()
        }
        for result in results
    ]
    assert errors[0].keys() == errors[1].keys()
    assert sum(errors[0].values()) < 0.9 * sum(errors[1].values())
    for name, quantizer in activation_quantizers(results[0].model).items():
        assert quantizer.scale <= 1.001 * activation_quantizers(results[1].model)[name].scale


@pytest.mark.parametrize("placement", ["layer_inputs", "integer"])
def test_integers_compute_what_was_simulated(no_norm, images, placement):
    settings = method_by_name("omse").settings(4, 8, placement=placement)
    model = zeroq.quantize_by_method(no_norm, SHAPE, method_by_name("omse"), settings, images=images).model
    expected = model(images)
    assert torch.allclose(integer_arithmetic(model)(images), expected, atol=0.02 * expected.abs().max().item())


def test_it_has_one_width(hand_written):
    with pytest.raises(zeroq.ZeroQError, match="mixed=False"):
        zeroq.zero_shot_quantize(hand_written, SHAPE, 4, 8, True, method="omse")
    with pytest.raises(zeroq.ZeroQError, match="is no part of what plans are measured with"):
        zeroq.zero_shot_quantize(hand_written, SHAPE, 4, 6, method="zeroq", mixed_activations=True, clipping="analytic")
