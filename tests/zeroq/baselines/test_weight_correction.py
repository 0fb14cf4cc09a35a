"""Mean and norm of rounded weights, against the formula in numpy."""

import numpy
import pytest
import torch
from torch import nn

import zeroq
from zeroq.baselines.weight_correction import correct_weights
from zeroq.layers import beside_weight, channel_axis, weight_steps
from zeroq.quantization.convert import convert


@pytest.mark.parametrize("per_channel", [True, False])
def test_each_channel_is_moved_and_scaled_by_the_formula(per_channel):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 6, 3), nn.Conv2d(6, 6, 3, groups=6), nn.Linear(4, 5)
    )
    plan = {"0": 3, "1": 2, "2": 32, "3": 4}
    before, quantized = (convert(model, plan, 32, per_channel=per_channel) for _ in range(2))
    correct_weights(quantized, model)
    for name in ("0", "1", "3"):
        layer = quantized.get_submodule(name)
        axis = channel_axis(layer)
        w, rounded, found = (
            numpy.moveaxis(net.get_submodule(name).weight.detach().double().numpy(), axis, 0)
            for net in (model, before, quantized)
        )
        for channel, values in enumerate(found):
            one, other = w[channel], rounded[channel]
            factor = numpy.linalg.norm(one - one.mean()) / numpy.linalg.norm(other - other.mean())
            assert values == pytest.approx(factor * (other + one.mean() - other.mean()), abs=1e-6)
            assert numpy.linalg.norm(values - values.mean()) == pytest.approx(
                numpy.linalg.norm(one - one.mean()), rel=1e-5
            )
        # The buffers say of which integers the weight is made.
        integers = weight_steps(before.get_submodule(name)) + beside_weight(
            layer, before.get_submodule(name).weight_zero_point
        )
        zero_point, scale, shift = (
            beside_weight(layer, layer.get_buffer(f"weight_{part}").double())
            for part in ("zero_point", "scale", "shift")
        )
        assert torch.allclose(scale * (integers - zero_point) + shift, layer.weight.double(), atol=1e-6)
    assert torch.equal(quantized[2].weight, model[2].weight)


def test_a_channel_without_spread_keeps_its_scale():
    model = nn.Sequential(nn.Linear(4, 2))
    model[0].weight.data = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]])
    quantized = convert(model, 4, 32)
    correct_weights(quantized, model)
    assert torch.allclose(quantized[0].weight, model[0].weight)
    assert quantized[0].weight_scale.isfinite().all()


def test_what_needs_integers_refuses_them(hand_written, images, tmp_path):
    with pytest.raises(zeroq.ZeroQError, match="moves weights between the integers that placement integer multiplies"):
        zeroq.Settings(8, 8, mixed=False, bias_correction="weights", placement="integer").check_values()
    settings = zeroq.Settings(8, 8, mixed=False, bias_correction="weights")
    result = zeroq.quantize_with_images(hand_written, images, settings)
    with pytest.raises(zeroq.ZeroQError, match="lies between the integers of its grid"):
        zeroq.export_onnx(result.model, tmp_path / "quantized.onnx", images[:1])
