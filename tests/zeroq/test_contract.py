"""The public interface, used as an outsider would, on networks that are not the zoo's."""

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision import models

import zeroq
from tests.networks import HandWritten, estimate_statistics
from zeroq.layers import weighted_layers
from zeroq.pipeline import describe

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def timm_network() -> nn.Module:
    torch.manual_seed(0)
    return estimate_statistics(timm.create_model("resnet10t", num_classes=7, channels=(16, 32, 64, 128)), SHAPE)


def networks():
    torch.manual_seed(0)
    yield "hand-written", estimate_statistics(HandWritten(), SHAPE)
    yield "timm", estimate_statistics(timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=7), SHAPE)


def snapshot(model: nn.Module) -> dict:
    """Everything that a call must leave as it was."""
    return {
        "state": {name: (tensor.clone(), tensor.data_ptr()) for name, tensor in model.state_dict().items()},
        "gradients": [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "classes": [type(module) for module in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
        "devices": [p.device for p in model.parameters()],
    }


def assert_untouched(model: nn.Module, before: dict) -> None:
    after = snapshot(model)
    for name, (tensor, address) in before["state"].items():
        assert torch.equal(after["state"][name][0], tensor), name
        assert after["state"][name][1] == address, name
    for (wanted, gradient), (wanted_now, gradient_now) in zip(before["gradients"], after["gradients"], strict=True):
        assert wanted == wanted_now
        assert (gradient is None) == (gradient_now is None)
        assert gradient is None or torch.equal(gradient, gradient_now)
    for key in ("modes", "classes", "hooks", "devices"):
        assert after[key] == before[key], key


def awkward(model: nn.Module) -> nn.Module:
    """Mixed modes, mixed requires_grad, a gradient that is somebody's, a hook that is somebody's."""
    model.train()
    children = list(model.modules())
    children[len(children) // 2].eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    children[1].register_forward_hook(lambda module, inputs, output: None)
    return model


@pytest.mark.parametrize(
    ("name", "network"), list(networks()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_whole_contract(name, network):
    model = awkward(network)
    before = snapshot(model)

    images = zeroq.distill(model, SHAPE, count=4, iterations=3, seed=0)
    assert images.shape == (4, *SHAPE)
    assert_untouched(model, before)
    omega = zeroq.sensitivity(model, images, bits=(2, 4, 8))
    assert_untouched(model, before)
    weighted = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(omega) == len(weighted)
    plan = zeroq.allocate(omega, average_bits=4)
    assert plan.size_bits <= 4 * sum(layer.weight.numel() for layer in weighted)
    assert plan.sensitivity == pytest.approx(sum(omega.loc[layer, bits] for layer, bits in plan.items()))
    frontier = zeroq.pareto_frontier(omega)
    sizes = [size for size, _, _ in frontier]
    assert sizes == sorted(sizes)
    assert plan in [point.plan for point in frontier]
    quantized = zeroq.quantize(model, weight_bits=plan, activation_bits=8, placement="layer_inputs")
    assert_untouched(model, before)
    zeroq.calibrate(quantized, images, percentile=None)
    assert_untouched(model, before)
    with torch.no_grad():
        model_eval = copy.deepcopy(model).eval()
        difference = (quantized(images) - model_eval(images)).abs().mean()
        assert 0 < difference < model_eval(images).abs().mean() * 3
    zeroq.refine(model, images, frontier, average_bits=4, count=2)
    assert_untouched(model, before)


def test_zero_shot_quantize_in_one_call(timm_network):
    before = snapshot(timm_network)
    result = zeroq.zero_shot_quantize(
        timm_network, SHAPE, weight_bits=4, activation_bits=8, mixed=True, count=4, iterations=5
    )
    assert_untouched(timm_network, before)
    assert result.images.shape == (4, *SHAPE)
    assert result.plan.average_bits <= 4
    assert len(result.sensitivity) == len(result.plan) == result.report["quantized_weight_layers"]
    assert len(result.report["distill_losses"]) == 5
    assert result.report["size_mib"] == pytest.approx(zeroq.size_mib(timm_network, result.plan))
    assert result.model(result.images).shape == (4, 7)
    uniform = zeroq.zero_shot_quantize(timm_network, SHAPE, 8, 8, mixed=False, count=2, iterations=2)
    assert set(uniform.plan.values()) == {8}


@pytest.mark.parametrize(
    "call",
    [
        lambda m: zeroq.distill(m, (1, 32, 32), iterations=2),
        lambda m: zeroq.distill(m, SHAPE, 2, 40, learning_rate=1e30),
        lambda m: zeroq.sensitivity(m, torch.zeros(2, 1, 32, 32)),
        lambda m: zeroq.sensitivity(m, torch.full((2, *SHAPE), float("nan"))),
        lambda m: zeroq.quantize(m, 9),
        lambda m: zeroq.quantize(m, 4, 1),
        lambda m: zeroq.zero_shot_quantize(m, SHAPE, 1.5, count=2, iterations=2),
    ],
)
def test_a_failing_call_leaves_the_network_alone(timm_network, call):
    model = awkward(copy.deepcopy(timm_network))
    before = snapshot(model)
    with pytest.raises(zeroq.ZeroQError):
        call(model)
    assert_untouched(model, before)


def test_a_failure_between_two_weights_leaves_the_network_alone(timm_network, monkeypatch):
    model = awkward(copy.deepcopy(timm_network))
    before = snapshot(model)
    passes = []

    def fail_the_third_time(module, inputs):
        passes.append(inputs)
        if len(passes) == 3:
            raise RuntimeError("out of luck")

    handle = next(model.children()).register_forward_pre_hook(fail_the_third_time)
    with pytest.raises(zeroq.ZeroQError, match="out of luck"):
        zeroq.sensitivity(model, torch.zeros(2, *SHAPE))
    assert len(passes) == 3
    handle.remove()
    assert_untouched(model, before)


def test_settings_are_refused_before_distilling(timm_network, monkeypatch):
    monkeypatch.setattr("zeroq.pipeline.calibration_images", lambda *arguments: pytest.fail("work was begun"))
    for arguments, sentence in [
        ({"weight_bits": 1.5}, "below the smallest candidate"),
        ({"weight_bits": 5, "candidates": (2, 4)}, "above the widest candidate"),
        ({"weight_bits": {"conv_stem": 4}, "mixed": True}, "mixed=False"),
        ({"weight_bits": {"conv_stem": 4}, "mixed": False}, "must name every Conv and Linear layer"),
        ({"activation_bits": 9}, "2…8"),
        ({"candidates": 4}, "candidate bits"),
        ({"percentile": 40}, "percentile"),
        ({"placement": "everywhere"}, "placement"),
        ({"direction": "sideways"}, "direction"),
        ({"refine": -1}, "refine"),
        ({"refine": 1.5}, "refine"),
        ({"frontier": "rough"}, "frontier"),
        ({"seed": 1.5}, "seed must be"),
        ({"learning_rate": "a"}, "learning_rate must be"),
        ({"size": 0}, "size is a number of pixels"),
        ({"limits": "x"}, "limits must be two sequences"),
        ({"method": ["zeroq"]}, "method must be one of"),
        ({"method": "gaussian", "recipe": "slow"}, "recipe must be one of"),
        ({"method": "naive", "count": -3}, "count must be at least 1"),
        ({"recipe": "slow"}, "recipe must be one of fast, natural, published"),
    ]:
        with pytest.raises(zeroq.ZeroQError, match=sentence):
            zeroq.zero_shot_quantize(timm_network, SHAPE, **arguments)


def test_quantized_layers_are_counted_in_the_network_itself(hand_written):
    plan = dict.fromkeys(weighted_layers(hand_written), 4)
    assert describe(hand_written, hand_written, plan)["quantized_weight_layers"] == 0
    assert describe(hand_written, zeroq.quantize(hand_written, plan), plan)["quantized_weight_layers"] == 4


def test_outputs_without_a_sensitivity_are_refused_before_distilling(monkeypatch):
    monkeypatch.setattr("zeroq.pipeline.calibration_images", lambda *arguments: pytest.fail("work was begun"))
    detector = models.detection.fcos_resnet50_fpn(weights=None, weights_backbone=None)
    with pytest.raises(zeroq.ZeroQError, match=r"resizes images.*give the detector's layers, zeroq\.take_apart"):
        zeroq.zero_shot_quantize(detector, SHAPE)
    pyramid = detector.backbone
    with pytest.raises(zeroq.ZeroQError, match=r"needs a classifier with one output tensor .* for other networks call"):
        zeroq.zero_shot_quantize(pyramid, SHAPE)


def test_interrupted_distillation_leaves_the_network_alone(timm_network):
    model = awkward(copy.deepcopy(timm_network))
    before = snapshot(model)

    def interrupt(iteration, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zeroq.distill(model, SHAPE, 2, 3, on_iteration=interrupt)
    assert_untouched(model, before)


def test_no_state_of_the_random_generator_is_used(timm_network):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    zeroq.distill(timm_network, SHAPE, 2, 2)
    zeroq.gaussian_images(SHAPE, 2)
    assert torch.equal(torch.get_rng_state(), state)
