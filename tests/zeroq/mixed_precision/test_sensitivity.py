"""Sensitivities against scipy and copies of the network that are quantized from outside."""

import copy

import numpy
import pytest
import torch
from scipy.stats import entropy
from torch import nn

import zeroq
from tests.networks import HandWritten
from tests.zeroq.mixed_precision.networks import Awkward, Detector, network
from zeroq.mixed_precision.sensitivity import check_candidates
from zeroq.quantization.affine import quantized_weight


@pytest.mark.parametrize("direction", ["forward", "symmetric"])
def test_is_scipy_s_kl_of_a_quantized_copy(hand_written, images, direction):
    omega = zeroq.sensitivity(hand_written, images, (2, 5), direction=direction)

    def probabilities(network: nn.Module) -> numpy.ndarray:
        with torch.no_grad():
            return network(images).double().softmax(1).numpy()

    before = probabilities(hand_written)
    for name in ("stem", "blocks.0.shared", "blocks.1.shared", "head"):
        for bits in (2, 5):
            changed = copy.deepcopy(hand_written)
            layer = changed.get_submodule(name)
            layer.weight.data = quantized_weight(layer.weight, bits)
            after = probabilities(changed)
            expected = entropy(before, after, axis=1).mean()
            if direction == "symmetric":
                expected = (expected + entropy(after, before, axis=1).mean()) / 2
            assert omega.loc[name, bits] == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_is_a_table_of_layers_and_bits(hand_written, images):
    omega = zeroq.sensitivity(hand_written, images)
    assert list(omega.index) == ["stem", "blocks.0.shared", "blocks.1.shared", "head"]
    assert list(omega.columns) == [2, 4, 8]
    assert omega.parameters == {"stem": 216, "blocks.0.shared": 576, "blocks.1.shared": 576, "head": 40}
    assert (omega[2] > omega[8]).all()
    assert zeroq.SensitivityTable.from_plain(omega.to_plain()).equals(omega)


def test_layers_can_be_selected_and_scaled(hand_written, images):
    omega = zeroq.sensitivity(hand_written, images)
    assert zeroq.allocate(omega * 2, average_bits=4) == zeroq.allocate(omega, average_bits=4)
    assert list(zeroq.allocate(omega.loc[["head"]], average_bits=4)) == ["head"]


@pytest.mark.parametrize("bits", [(1,), (2, 9), (), (2.5,), (32,)])
def test_candidates_out_of_range(hand_written, images, bits):
    with pytest.raises(zeroq.ZeroQError, match="2…8"):
        zeroq.sensitivity(hand_written, images, bits)


def test_other_wrong_arguments(hand_written, images):
    with pytest.raises(zeroq.ZeroQError, match="direction"):
        zeroq.sensitivity(hand_written, images, direction="backward")
    with pytest.raises(zeroq.ZeroQError, match="classifier"):
        zeroq.sensitivity(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2)), images)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        (HandWritten, "exact"),
        (Awkward, "exact"),
        (Detector, "exact"),
        (HandWritten, "estimated"),
        (Detector, "estimated"),
    ],
)
def test_leaves_the_network_as_it_came(images, kind, mode):
    model = network(kind).train()
    next(model.children()).eval()
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index % 2 == 0)
    values = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    asked = images.clone().requires_grad_()
    zeroq.sensitivity(model, asked, mode=mode)
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == values[name][0]
        assert torch.equal(tensor, values[name][1])
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == [
        index % 2 == 0 for index in range(len(list(model.parameters())))
    ]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert asked.grad is None
    assert not any(module._forward_hooks for module in model.modules())


def test_wrong_ways(hand_written, images):
    with pytest.raises(zeroq.ZeroQError, match="exact or estimated"):
        zeroq.sensitivity(hand_written, images, mode="guessed")
    with pytest.raises(zeroq.ZeroQError, match="memory_mib"):
        zeroq.sensitivity(hand_written, images, memory_mib=0)
    with pytest.raises(zeroq.ZeroQError, match="exact or estimated"):
        zeroq.zero_shot_quantize(hand_written, (3, 16, 16), sensitivity="guessed")


def test_progress_ends_at_all_layers(hand_written, images):
    for settings in ({}, {"memory_mib": 0.2}, {"memory_mib": 1e-3}, {"mode": "estimated"}):
        steps = []
        zeroq.sensitivity(hand_written, images, on_layer=lambda *step, steps=steps: steps.append(step), **settings)
        assert steps[-1] == (4, 4)
        assert steps == sorted(steps)


@pytest.mark.parametrize("bits", [[1, 4], [4, 9], [], 4])
def test_candidates_that_no_weight_has_are_refused(bits):
    assert check_candidates([8, 2, 4, 4]) == (2, 4, 8)
    with pytest.raises(zeroq.ZeroQError, match="candidate bits must be a list of widths in 2…8"):
        check_candidates(bits)
