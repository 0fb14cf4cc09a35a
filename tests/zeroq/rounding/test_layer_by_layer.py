"""Compensated rounding of whole networks: what each layer is rounded on, and what is left alone."""

import copy

import pytest
import torch
from torch import nn

import zeroq
from tests.networks import estimate_statistics, photographs
from zeroq.layers import weight_grid, weight_steps, weighted_layers
from zeroq.quantization.affine import quantized_weight
from zeroq.rounding.columns import MOST_INPUTS, input_columns, weight_rows


class Several(nn.Module):
    """A layer that is called twice, one that is never called, a transposed one, tokens."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.twice = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.unused = nn.Linear(4, 4)
        self.tokens = nn.Linear(6, 6)
        self.last = nn.Linear(6, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.norm(self.first(images)))
        features = torch.relu(self.twice(torch.relu(self.twice(features))))
        tokens = self.up(features).flatten(2).transpose(1, 2)
        return self.last(torch.relu(self.tokens(input=tokens)).mean(1))


@pytest.fixture(scope="module")
def several() -> nn.Module:
    torch.manual_seed(0)
    return estimate_statistics(Several(), (3, 8, 8))


@pytest.fixture
def photos() -> torch.Tensor:
    return photographs(8)


def inputs_in(network: nn.Module, name: str, images: torch.Tensor) -> list[torch.Tensor]:
    """What a layer of a quantized network multiplies its weight with."""
    seen = []
    layer = network.get_submodule(name)

    def record(layer, inputs, named):
        values = inputs[0] if inputs else named["input"]
        seen.append(values if layer.input_quantizer is None else layer.input_quantizer(values))

    with layer.register_forward_pre_hook(record, with_kwargs=True), torch.no_grad():
        network(images)
    return seen


@pytest.mark.parametrize(("per_channel", "symmetric"), [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("activation_bits", [32, 4])
def test_every_layer_errs_less_on_what_it_sees(several, photos, activation_bits, per_channel, symmetric):
    how = {"per_channel": per_channel, "symmetric": symmetric}
    rounded = zeroq.quantize(several, 3, activation_bits, rounding="compensated", images=photos, **how)
    moved = 0
    for name, layer in weighted_layers(several).items():
        if name in ("unused", "twice"):  # the second call of which sees what the first one made of its rounded weight
            continue
        (seen,) = inputs_in(rounded, name, photos)
        columns = input_columns(layer, seen)
        nearest = quantized_weight(layer.weight, 3, axis=1 if name == "up" else 0, **how)
        errors = [
            ((weight_rows(layer, weight - layer.weight.detach()) @ columns) ** 2).mean((0, 3))
            for weight in (rounded.get_submodule(name).weight.detach(), nearest)
        ]
        assert (errors[0] <= errors[1] * (1 + 1e-4) + 1e-12).all(), name
        moved += int((errors[0] < errors[1]).sum())
    assert moved > 8


def test_weights_are_on_the_grid_of_rounding_to_the_nearest(several, photos):
    plan = {"first": 8, "twice": 2, "up": 4, "unused": 3, "tokens": 32, "last": 5}
    rounded = zeroq.quantize(several, plan, 8, rounding="compensated", images=photos)
    nearest = zeroq.quantize(several, plan, 8)
    for name, layer in weighted_layers(rounded).items():
        assert layer.weight_bits == plan[name]
        if plan[name] == 32:
            assert torch.equal(layer.weight, several.get_submodule(name).weight)
            continue
        other = nearest.get_submodule(name)
        assert torch.equal(layer.weight_scale, other.weight_scale)
        assert torch.equal(layer.weight_zero_point, other.weight_zero_point)
        lowest, highest = weight_grid(layer)
        zero = layer.weight_zero_point.view(-1, *(1 for _ in layer.weight.shape[1:]))
        zero = zero.transpose(0, 1) if name == "up" else zero
        steps = weight_steps(layer) + zero
        assert steps.min() >= lowest
        assert steps.max() <= highest
    assert torch.equal(rounded.unused.weight, nearest.unused.weight)
    assert rounded.unused.bias.equal(several.unused.bias)


def test_the_network_is_left_alone_and_a_state_dict_reloads(several, photos):
    before = copy.deepcopy(several.state_dict())
    rounded = zeroq.quantize(several, 4, 8, rounding="compensated", images=photos)
    assert all(torch.equal(before[name], value) for name, value in several.state_dict().items())
    assert not any(module._forward_pre_hooks for network in (several, rounded) for module in network.modules())
    again = zeroq.quantize(several, 8, 8)
    again.load_state_dict(rounded.state_dict())
    assert torch.equal(again(photos), rounded(photos))


def test_it_is_the_same_every_time(several, photos):
    once, again = (zeroq.quantize(several, 2, 4, rounding="compensated", images=photos) for _ in range(2))
    for name, value in once.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("most_inputs", [MOST_INPUTS, 4])
def test_biases_make_up_for_a_layer_s_own_error(several, photos, most_inputs, monkeypatch):
    monkeypatch.setattr("zeroq.rounding.columns.MOST_INPUTS", most_inputs)  # larger layers are rounded in parts
    quantized = zeroq.quantize(several, 32, 32)
    zeroq.round_layer_by_layer(quantized, several, photos, dict.fromkeys(weighted_layers(several), 2), correct=True)
    for name in ("first", "tokens", "last"):
        (seen,) = inputs_in(quantized, name, photos)
        layer, original = quantized.get_submodule(name), several.get_submodule(name)
        with torch.no_grad():
            axes = (0, 2, 3) if name == "first" else tuple(range(seen.dim() - 1))
            own = torch.nn.functional.conv2d if name == "first" else torch.nn.functional.linear
            words = {"padding": 1} if name == "first" else {}
            means = [own(seen, each.weight, each.bias, **words).mean(axes) for each in (layer, original)]
        torch.testing.assert_close(*means, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu", "integer"])
def test_every_placement(hand_written, images, placement):
    network = (
        hand_written if placement != "after_relu" else nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), hand_written_tail())
    )
    rounded = zeroq.quantize(network, 4, 8, placement, rounding="compensated", images=images)
    assert all(int(layer.weight_bits) == 4 for layer in weighted_layers(rounded).values())
    assert (rounded(images) - network(images)).abs().mean() < (network(images)).abs().mean()


def hand_written_tail() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))


def test_white_noise_leaves_rounding_to_the_nearest():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(3, 16, 3))
    noise = torch.randn(64, 3, 12, 12)
    rounded, nearest = zeroq.quantize(layer, 4, 32, rounding="compensated", images=noise), zeroq.quantize(layer, 4, 32)
    assert (rounded[0].weight == nearest[0].weight).float().mean() > 0.995


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_and_single_places(count):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 8, 1), nn.Flatten())
    images = torch.randn(count, 3, 3, 3)
    result = zeroq.quantize_with_images(
        network, images, zeroq.Settings(3, 8, mixed=False, rounding="compensated", bias_correction="empirical")
    )
    shares = result.report["distrusted_correlations"]
    assert shares.keys() == {"0", "3"}
    assert shares["0"] > 0.5
    assert result.model(images).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(several, photos, dtype):
    network = copy.deepcopy(several).to(dtype)
    rounded = zeroq.quantize(network, 4, 8, rounding="compensated", images=photos.to(dtype))
    assert rounded.first.weight.dtype == dtype
    assert rounded(photos.to(dtype)).isfinite().all()


def test_what_is_refused(several, photos):
    with pytest.raises(zeroq.ZeroQError, match="rounding compensated looks at images"):
        zeroq.quantize(several, rounding="compensated")
    with pytest.raises(zeroq.ZeroQError, match="rounding to the nearest looks at none"):
        zeroq.quantize(several, images=photos)
    with pytest.raises(zeroq.ZeroQError, match="rounding must be one of nearest, compensated"):
        zeroq.quantize(several, rounding="best", images=photos)
    damaged = copy.deepcopy(several)
    damaged.norm.running_var.fill_(float("nan"))
    with pytest.raises(zeroq.ZeroQError, match="NaN or infinite"):
        zeroq.quantize(damaged, 4, 32, rounding="compensated", images=photos)


class Unusual(nn.Module):
    """One way to call layers that is not a plain chain; input (3, 10, 10)."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(0)
        self.way = way
        self.stem, self.again = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.way == "one image after the other":
            features = torch.cat([self.stem(image[None]) for image in images])
        elif self.way == "without a batch":
            features = torch.stack([self.stem(image) for image in images])
        else:
            features = self.stem(images)
        if self.way == "more often for one image":
            features = self.again(self.again(features)) if len(images) == 1 else self.again(features)
        elif self.way == "only for one image" and len(images) == 1:
            features = self.again(features)
        elif self.way == "overwritten":
            twice = self.again(features)
            twice = self.again(twice.relu())
            features = twice + features.mul_(0)
        elif self.way == "by keyword":
            features = self.again(input=features)
        pooled = features.mean((2, 3))
        if self.way == "vectors":
            return torch.stack([self.head(vector) for vector in pooled])
        if self.way == "no image at all":
            return self.head(pooled) + self.again(features[:0]).sum()
        return self.head(pooled)


WAYS = (
    "one image after the other",
    "without a batch",
    "more often for one image",
    "only for one image",
    "overwritten",
    "by keyword",
    "vectors",
    "no image at all",
)


@pytest.mark.parametrize("activation_bits", [32, 8])
@pytest.mark.parametrize("way", WAYS)
def test_unusual_calls(photos, way, activation_bits):
    network = Unusual(way).eval()
    plan = {"stem": 3, "again": 3, "head": 3}
    if way == "only for one image" and activation_bits == 8:
        plan["again"] = 32
    rounded = zeroq.quantize(network, plan, activation_bits, rounding="compensated", images=photos)
    assert all(int(layer.weight_bits) == plan[name] for name, layer in weighted_layers(rounded).items())
    with torch.no_grad():
        assert (rounded(photos) - network(photos)).abs().mean() < 0.5 * network(photos).abs().mean()
    words = {"images": photos, "method": "zeroq+", "mixed": way != "vectors"}
    if way not in ("overwritten", "more often for one image"):  # as for zeroq, sensitivities want a gradient
        result = zeroq.zero_shot_quantize(network, (3, 10, 10), 4, activation_bits, **words)
        assert result.report["quantized_weight_layers"] == 3


def test_one_image_after_the_other_is_as_good_as_all_at_once(photos):
    ways = [
        zeroq.quantize(Unusual(way).eval(), 3, 32, rounding="compensated", images=photos).stem.weight
        for way in ("one image after the other", "without a batch", "plain")
    ]
    assert torch.equal(ways[0], ways[1])
    assert (ways[0] == ways[2]).float().mean() > 0.95  # all but roundings of the second moments


def test_inputs_that_are_overwritten_later(photos):
    class Spelled(Unusual):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            features = self.stem(images)
            twice = self.again(self.again(features).relu())
            return self.head((twice + features * 0).mean((2, 3)))

    in_place, plain = (
        zeroq.quantize(kind("overwritten").eval(), 3, 32, rounding="compensated", images=photos).again.weight
        for kind in (Unusual, Spelled)
    )
    assert torch.equal(in_place, plain)


def test_every_layer_that_is_rounded_is_a_step(several, photos):
    steps = []
    quantized = zeroq.quantize(several, 32, 32)
    plan = dict.fromkeys(weighted_layers(several), 3) | {"up": 32}
    zeroq.round_layer_by_layer(
        quantized, several, photos, plan, on_layer=lambda done, total: steps.append((done, total))
    )
    # Neither the one that is left in float nor the one that is never called.
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
