"""ACIQ on whole networks that are not of the zoo."""

import pytest
import torch

import zeroq
from zeroq.baselines.analytic_clipping import analytic_range
from zeroq.layers import weighted_layers
from zeroq.methods import method_by_name
from zeroq.quantization.affine import affine_parameters
from zeroq.quantization.convert import activation_quantizers

SHAPE = (3, 16, 16)
ACIQ = method_by_name("aciq")


def test_both_parts_are_in_the_network(hand_written, images):
    result = zeroq.quantize_by_method(hand_written, SHAPE, ACIQ, ACIQ.settings(3, 4), images=images)
    first = affine_parameters(*analytic_range(images, 4), 4)
    assert result.model.stem.input_quantizer.scale == pytest.approx(first.scale.item())
    originals = weighted_layers(hand_written)
    for name, layer in weighted_layers(result.model).items():
        rows = [each.weight.detach().flatten(1) for each in (originals[name], layer)]
        spreads = [each.std(1) for each in rows]
        assert torch.allclose(*spreads, rtol=1e-4), name
    clipped = [
        quantizer.scale.item() * 15 < (values := images).max() - values.min()
        for quantizer in [result.model.stem.input_quantizer]
    ]
    assert all(clipped)
    assert len(activation_quantizers(result.model)) == result.report["quantized_activations"] == 4


def test_a_state_dict_reloads(hand_written, images):
    one, other = (
        zeroq.quantize_by_method(hand_written, SHAPE, ACIQ, ACIQ.settings(4, 8), images=each).model
        for each in (images, -images)
    )
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        assert torch.equal(one(images), other(images))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mixed": True}, "bias_correction='weights' is no part of what plans are measured with"),
        ({"placement": "integer"}, "choose placement='layer_inputs'"),
        ({"rounding": "compensated"}, "rounded to the nearest"),
        ({"percentile": 99.9}, "clipping chooses the ends of activation ranges, and so does percentile"),
    ],
)
def test_what_does_not_go_together(hand_written, images, settings, sentence):
    with pytest.raises(zeroq.ZeroQError, match=sentence):
        zeroq.quantize_by_method(hand_written, SHAPE, ACIQ, ACIQ.settings(4, 8, **settings), images=images)


def test_clipping_needs_ranges_from_images(hand_written):
    with pytest.raises(zeroq.ZeroQError, match="clipping is of ranges from images"):
        zeroq.zero_shot_quantize(hand_written, SHAPE, 8, 4, method="naive", clipping="analytic")
