"""Networks as people hold them: those that keep feature maps, wrapped ones, those made in inference mode."""

import copy
import warnings
from collections import namedtuple
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from tests.zeroq.test_contract import assert_untouched, awkward, snapshot
from zeroq.borrowing import as_it_came, copied
from zeroq.quantization.operations import multiply_accumulates
from zeroq.rounding.learned import learn_rounding

SHAPE = (3, 16, 16)
Pair = namedtuple("Pair", "one other")


@dataclass
class Record:
    values: torch.Tensor


class Keeping(nn.Module):
    """A network that keeps feature maps in every way that modules do."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.register_buffer("seen", None)
        self.all_features, self.by_name = [], {}
        self.features = self.pair = self.record = None

    def forward(self, x):
        self.features = torch.relu(self.norm(self.convolution(x)))
        self.seen = self.features.mean((2, 3))
        self.all_features.append(self.features)
        self.by_name["pair"] = self.pair = Pair(self.features, [self.seen])
        self.record = Record(self.features)
        return self.head(self.seen)


def kept(model: Keeping) -> list[torch.Tensor]:
    """What a network kept."""
    one, (other,) = model.pair
    in_dictionary, _ = model.by_name["pair"]
    return [model.features, model.seen, model.all_features[-1], one, other, in_dictionary, model.record.values]


@pytest.fixture
def keeping() -> Keeping:
    torch.manual_seed(0)
    model = estimate_statistics(Keeping(), SHAPE)
    model.all_features.clear()
    model.features = model.seen = model.pair = model.record = None
    model.by_name.clear()
    return model


@pytest.fixture
def plain() -> nn.Module:
    return network()


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return estimate_statistics(nn.Sequential(*layers, nn.Linear(8, 5)), SHAPE)


def refined(model: nn.Module, images: torch.Tensor) -> None:
    frontier = zeroq.pareto_frontier(zeroq.sensitivity(model, images))
    zeroq.refine(model, images, frontier, average_bits=4, count=1)


def grouped(model: nn.Module, images: torch.Tensor) -> None:
    zeroq.grouped_frontier(model, images, zeroq.sensitivity(model, images), average_bits=4)


CALLS: dict[str, Callable] = {
    "distill": lambda model, images: zeroq.distill(model, SHAPE, 2, 2),
    "distill_fast": lambda model, images: zeroq.distill_fast(model, SHAPE, 2, 2),
    "distill_natural": lambda model, images: zeroq.distill_natural(model, SHAPE, 2, 2),
    "batch_norm_loss": zeroq.batch_norm_loss,
    "sensitivity": zeroq.sensitivity,
    "estimated": lambda model, images: zeroq.sensitivity(model, images, mode="estimated"),
    "activation_sensitivity": lambda model, images: zeroq.activation_sensitivity(model, images, mode="estimated"),
    "refine": refined,
    "grouped_frontier": grouped,
    "quantize": lambda model, images: zeroq.quantize(model, 4, 8),
    "integer": lambda model, images: zeroq.quantize(model, 4, 8, "integer", input_shape=SHAPE),
    "learned": lambda model, images: zeroq.quantize(model, 4, 8, rounding="learned", images=images),
    "zero_shot_quantize": lambda model, images: zeroq.zero_shot_quantize(model, SHAPE, count=2, iterations=2),
    "quantize_with_images": lambda model, images: zeroq.quantize_with_images(model, images, zeroq.Settings()),
    "quantize_with_dfq": lambda model, images: zeroq.quantize_with_dfq(model, SHAPE, zeroq.Settings(8, 8, mixed=False)),
    "quantize_naively": lambda model, images: zeroq.quantize_naively(model, 8, 8),
}


@pytest.fixture(params=CALLS)
def call(request) -> Callable:
    return CALLS[request.param]


def test_nothing_is_left_in_a_network_that_keeps_feature_maps(keeping, images, call, monkeypatch):
    monkeypatch.setattr("zeroq.rounding.learned.ITERATIONS", 2)
    model = awkward(keeping)
    lists, before = (model.all_features, model.by_name), snapshot(model)
    call(model, images)
    assert_untouched(model, before)
    assert (model.features, model.seen, model.pair, model.record) == (None,) * 4
    assert model.all_features is lists[0] == []
    assert model.by_name is lists[1] == {}


def test_what_a_network_kept_before_is_still_there(keeping, images, call):
    keeping(images)
    before = kept(keeping)
    call(keeping, images)
    assert all(one is other for one, other in zip(kept(keeping), before, strict=True))
    assert len(keeping.all_features) == 1
    assert keeping.features.grad_fn is not None  # the caller's own graph


def test_a_failing_call_leaves_nothing_either(keeping, images):
    with pytest.raises(zeroq.ZeroQError, match="does not accept"):
        zeroq.distill(keeping, (1, 16, 16), 2, 2)
    with suppress(KeyboardInterrupt), as_it_came(keeping):
        keeping(images)
        raise KeyboardInterrupt
    assert keeping.features is None
    assert keeping.all_features == []


def test_learned_rounding_leaves_no_graph_in_what_it_learns(keeping, images):
    quantized = zeroq.quantize(keeping, 4, 8, rounding="compensated", images=images)
    learn_rounding(quantized, keeping, images, iterations=2)
    assert not any(tensor.requires_grad for tensor in kept(quantized))
    assert keeping.features is None


def test_copies_hold_no_graph_and_share_nothing(keeping, images):
    keeping(images)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(keeping)
    twin = copied(keeping)
    for own, other in zip(kept(keeping), kept(twin), strict=True):
        assert other.grad_fn is None
        assert torch.equal(own, other)
        assert own.data_ptr() != other.data_ptr()
    assert twin.features is twin.all_features[0] is twin.record.values
    assert [each.requires_grad for each in twin.parameters()] == [each.requires_grad for each in keeping.parameters()]


def test_wrapped_networks_are_refused_with_the_one_inside(plain, images, call):
    before = snapshot(plain)
    wrapped = {
        r"model is wrapped in DataParallel; give the network inside, model\.module": nn.DataParallel(plain),
        r"wrapped in OptimizedModule; give .* model\._orig_mod": torch.compile(plain),
        r"model\.0 is wrapped in DataParallel; give .* model\.0\.module": nn.Sequential(nn.DataParallel(plain)),
        r"model is TorchScript.* give the nn\.Module": torch.jit.script(plain),
    }
    for sentence, model in wrapped.items():
        with pytest.raises(zeroq.ZeroQError, match=sentence):
            call(model, images)
    assert_untouched(plain, before)


@pytest.mark.parametrize(
    "call", [zeroq.calibrate, multiply_accumulates, lambda model, images: zeroq.integer_arithmetic(model, SHAPE)]
)
def test_wrapped_quantized_networks_are_refused_too(plain, images, call):
    with pytest.raises(zeroq.ZeroQError, match=r"model\.module"):
        call(nn.DataParallel(zeroq.quantize(plain)), images)


def test_what_has_no_weights_is_refused(images):
    with pytest.raises(zeroq.ZeroQError, match=r"model\.0 has no weights yet"):
        zeroq.sensitivity(nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(5)), images)
    with pytest.raises(zeroq.ZeroQError, match=r"a torch\.nn\.Module, not str"):
        zeroq.distill("resnet18", SHAPE)


def assert_same(found, expected) -> None:
    """Two results of a call: images, tables, networks, numbers or none."""
    if isinstance(found, zeroq.QuantizationResult):
        found, expected = found.model, expected.model
    if isinstance(found, nn.Module):
        assert not any(each.is_inference() for each in (*found.parameters(), *found.buffers()))
        found, expected = dict(found.state_dict()), dict(expected.state_dict())
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    elif isinstance(found, torch.Tensor):
        assert not found.is_inference()
        assert torch.equal(found, expected)
    elif found is not None:
        assert (found == expected).all(axis=None) if hasattr(found, "all") else found == expected


def test_inference_mode_changes_nothing(images, call, monkeypatch):
    """Of the caller, of the images, or of where the network was made."""
    monkeypatch.setattr("zeroq.rounding.learned.ITERATIONS", 2)
    expected = call(network(), images)
    with torch.inference_mode():
        made_inside, images_inside = network(), images.clone()
        assert_same(call(network(), images_inside), expected)
        assert_same(call(made_inside, images_inside), expected)
    before = snapshot(made_inside)
    assert_same(call(made_inside, images), expected)
    assert_untouched(made_inside, before)
    assert_same(call(network(), images_inside), expected)


def test_a_batch_norm_s_own_objection_is_one_sentence(plain, images):
    model = nn.Sequential(nn.Flatten(), plain[1], nn.Linear(8, 5))
    with pytest.raises(zeroq.ZeroQError, match=r"does not accept images of shape .*expected 4D input"):
        zeroq.sensitivity(model, images)
    with pytest.raises(zeroq.ZeroQError, match=r"does not accept images of shape .*expected 4D input"):
        zeroq.distill(model, SHAPE, 2, 2)


def test_it_is_said_once_where_scores_depend_on_the_batch(images, call):
    model = nn.Sequential(
        *network()[:3],
        nn.Conv2d(8, 8, 1),
        nn.BatchNorm2d(8, track_running_stats=False),
        nn.BatchNorm2d(8, track_running_stats=False),
        *network()[3:],
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with suppress(zeroq.ZeroQError):  # DFQ cannot follow statistics through such a layer
            call(model, images)
    said = [str(each.message) for each in said if "batch" in str(each.message)]
    assert len(said) == 1 + (call in (refined, grouped))  # two public calls
    assert said[0].startswith("layer '4' (BatchNorm2d, track_running_stats=False) has recorded no statistics")


def test_nothing_is_said_of_normalizations_by_image(images):
    model = network()
    model[2] = nn.Sequential(nn.InstanceNorm2d(8), nn.GroupNorm(2, 8), nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zeroq.sensitivity(model, images)
