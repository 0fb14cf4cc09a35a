"""What is compared of a network's output, against formulas by hand and against other networks that say the same."""

import copy

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import zeroq
from tests.networks import estimate_statistics
from zeroq.layers import weighted_layers
from zeroq.mixed_precision import exact
from zeroq.mixed_precision.activations import activation_sensitivity
from zeroq.mixed_precision.clipping import clip_ranges
from zeroq.mixed_precision.estimated import estimates
from zeroq.mixed_precision.outputs import reading_of
from zeroq.quantization.affine import quantized_weight
from zeroq.quantization.convert import activation_quantizers

SHAPE = (3, 16, 16)
WIDTHS = (2, 5)


def say(outputs: int, *ends: nn.Module) -> nn.Sequential:
    """A network of so many outputs, in float64, with these modules behind."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, outputs))
    network[-1].weight.data *= 20
    return estimate_statistics(nn.Sequential(*network, *ends), SHAPE).double()


def pixels(classes: int, *ends: nn.Module) -> nn.Sequential:
    """Outputs [N, classes, 16, 16]."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Conv2d(8, classes, 1), nn.Upsample(size=SHAPE[1:], mode="bilinear"), *ends)
    network[9].weight.data *= 10
    return estimate_statistics(network, SHAPE).double()


class Arranged(nn.Module):
    """A network whose output is arranged by a function."""

    def __init__(self, network: nn.Module, arrange):
        super().__init__()
        self.network, self.arrange = network, arrange

    def forward(self, images):
        return self.arrange(self.network(images))


class Pair(nn.Module):
    """0 and a logit: classes whose softmax is the logit's sigmoid."""

    def forward(self, logit):
        return torch.cat([torch.zeros_like(logit), logit], 1)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(2)).double()


def by_definition(model: nn.Module, images: torch.Tensor, distance, widths=WIDTHS) -> torch.Tensor:
    """``distance`` of outputs, of copies with one quantized layer."""
    values = []
    with torch.no_grad():
        before = model(images)
        for name in weighted_layers(model):
            for bits in widths:
                changed = copy.deepcopy(model)
                layer = changed.get_submodule(name)
                layer.weight.data = quantized_weight(layer.weight, bits)
                values.append(distance(before, changed(images)).item())
    return torch.tensor(values, dtype=torch.float64).view(-1, len(widths))


def measured(model: nn.Module, images: torch.Tensor, **how) -> torch.Tensor:
    return torch.tensor(zeroq.sensitivity(model, images, WIDTHS, **how).to_numpy())


def assert_same(found: torch.Tensor, expected: torch.Tensor, relative: float = 1e-6) -> None:
    assert (expected > 0).all()
    assert torch.allclose(found, expected, rtol=relative, atol=0)


def softmax_kl(before, after):
    p, q = before.softmax(1), after.softmax(1)
    return (p * (p / q).log()).sum(1).mean()


def bernoulli_kl(before, after):
    p, q = before.sigmoid(), after.sigmoid()
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def relative_change(before, after):
    return (after - before).square().sum() / (before - before.mean()).square().sum()


@pytest.mark.parametrize("mode", ["exact", "estimated"])
@pytest.mark.parametrize("direction", ["forward", "symmetric"])
@pytest.mark.parametrize(
    ("network", "outputs", "end"),
    [(say, 5, nn.Softmax(1)), (say, 1, nn.Sigmoid()), (pixels, 4, nn.Softmax(1)), (pixels, 1, nn.Sigmoid())],
)
def test_probabilities_are_as_sensitive_as_their_logits(images, mode, direction, network, outputs, end):
    how = {"mode": mode, "direction": direction}
    logits, probabilities = (measured(network(outputs, *ends), images, **how) for ends in ((), (end,)))
    assert_same(probabilities, logits)
    assert not torch.allclose(measured(network(outputs, end), images, output="scores", **how), logits, rtol=0.1)


def test_probabilities_in_float32(images):
    single, images = say(5, nn.Softmax(1)).float(), images.float()
    assert_same(measured(single, images), measured(say(5), images.double()), 1e-2)
    certain = say(5, nn.Softmax(1)).float()
    certain[-2].weight.data *= 1000  # all but one are 0
    assert zeroq.sensitivity(certain, images, WIDTHS).map(lambda value: value < 200).all(axis=None)


def test_what_looks_like_probabilities_in_some_images_only_is_none(images):
    model = say(1)
    with torch.no_grad():
        model[-1].bias -= model(images)[0].item() - 0.5
        assert 0 < model(images)[0] < 1
        assert model(images).max() > 1
    assert not reading_of(model, images, None).probabilities
    assert reading_of(model, images[:1], None).probabilities
    assert not reading_of(model, images[:1], "scores").probabilities
    saturated = nn.Sequential(nn.Flatten(), nn.Linear(768, 1), nn.Hardsigmoid()).double()
    saturated[1].bias.data += 100
    assert reading_of(saturated, images, None).probabilities


@pytest.mark.parametrize("direction", ["forward", "symmetric"])
@pytest.mark.parametrize("network", [say, pixels])
def test_one_logit_is_two_classes(images, direction, network):
    one, two = network(1), network(1, Pair())
    found = measured(one, images, direction=direction)
    assert_same(found, measured(two, images, direction=direction))
    if direction == "forward":
        assert_same(found, by_definition(one, images, lambda *scores: bernoulli_kl(*scores).mean()))


def test_one_logit_gets_a_plan(images):
    result = zeroq.zero_shot_quantize(say(1), SHAPE, 6, 8, images=images, method="zeroq", candidates=range(2, 9))
    assert 5 < result.plan.average_bits <= 6
    assert (result.sensitivity[2] > 0).all()


@pytest.mark.parametrize("network", [lambda: say(3), lambda: say(1, nn.Flatten(0)), lambda: pixels(2)])
def test_values_against_their_variance(images, network):
    model = network()
    assert_same(measured(model, images, output="values"), by_definition(model, images, relative_change))
    scaled = Arranged(model, lambda values: 100 * values + 7)
    assert_same(measured(scaled, images, output="values"), measured(model, images, output="values"))


@pytest.mark.parametrize("classes", [1, 4])
def test_pixels_that_are_classified(images, classes):
    bare = pixels(classes)
    named = Arranged(bare, lambda scores: {"out": scores, "aux": scores[:, :, ::2]})
    distance = softmax_kl if classes > 1 else lambda *scores: bernoulli_kl(*scores).mean()
    found = measured(named, images)
    assert_same(found, by_definition(bare, images, distance))
    assert_same(measured(bare, images), found)
    both = (zeroq.sensitivity(named, images, range(2, 9), mode=mode) for mode in ("exact", "estimated"))
    assert spearmanr(*(omega.to_numpy().flatten() for omega in both)).statistic > 0.95


def test_several_labels_are_a_detector_s_anchor(images):
    model = say(4)
    found = measured(model, images, output=lambda logits: logits[:, None])
    assert_same(found, by_definition(model, images, lambda *scores: bernoulli_kl(*scores).sum(1).mean()))


@pytest.mark.parametrize(
    ("arrange", "output"),
    [
        (lambda scores: {"other": scores.exp(), "scores of it": scores}, "scores of it"),
        (lambda scores: (scores.exp(), scores), 1),
        (lambda scores: [scores, scores.exp()], 0),
        (lambda scores: {"deep": (scores.exp(), [scores])}, lambda output: output["deep"][1][0]),
    ],
)
@pytest.mark.parametrize("mode", ["exact", "estimated"])
def test_scores_by_name_position_or_function(images, arrange, output, mode):
    model = Arranged(say(5), arrange)
    assert_same(measured(model, images, output=output, mode=mode), measured(say(5), images, mode=mode))
    with torch.no_grad():
        reading = reading_of(model, images, output)
        candidates = exact.Candidates(weighted_layers(model), WIDTHS, {})
        assert exact.portions_for(model, images, candidates, 1024, reading).network is not None
    frontier = zeroq.pareto_frontier(zeroq.sensitivity(model, images, output=output))
    ((plan, joint),) = zeroq.refine(model, images, frontier, average_bits=4, count=1, output=output)
    with torch.no_grad():
        both = (model.network(images), zeroq.quantize(model, plan, 32).network(images))
    assert joint == pytest.approx(softmax_kl(*both).item(), rel=1e-6)


def moved(model: nn.Module, layer: nn.Module, change: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The derivative of the output by a layer's weight, in the direction of a change."""
    name = next(name for name, each in model.named_parameters() if each is layer.weight)
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)

    def output(size):
        return torch.func.functional_call(model, {name: layer.weight.detach() + size * change}, (images,))

    return torch.func.jvp(output, (zero,), (one,))[1]


@pytest.mark.parametrize("kind", ["logit", "pixels", "values"])
def test_estimated_is_the_quadratic_form(images, kind):
    model = {"logit": say(1), "pixels": pixels(4), "values": say(3)}[kind]
    reading = reading_of(model, images, "values" if kind == "values" else None)
    layers = weighted_layers(model)
    candidates = exact.Candidates(layers, (5,), {})
    with torch.no_grad():
        found = estimates(model, images, candidates, directions=3000, on_layer=lambda *step: None, reading=reading)
        scores = model(images)
    for row, (name, layer) in enumerate(layers.items()):
        slope = moved(model, layer, candidates.weights(name)[0] - layer.weight.detach(), images)
        if kind == "logit":
            expected = (scores.sigmoid() * (1 - scores.sigmoid()) * slope**2).mean() / 2
        elif kind == "pixels":
            p = scores.softmax(1)
            expected = ((p * slope**2).sum(1) - (p * slope).sum(1) ** 2).mean() / 2
        else:
            expected = slope.square().mean() / scores.var(correction=0)
        assert found[row, 0].item() == pytest.approx(expected.item(), rel=0.1)


@pytest.mark.parametrize("mode", ["exact", "estimated"])
def test_sensitivities_of_activations(images, mode):
    model, images = say(3).float(), images.float()
    omega = activation_sensitivity(model, images, (8,), output="values", mode=mode)
    for place in omega.index:
        alone = zeroq.quantize(model, 32, dict.fromkeys(omega.index, 32) | {place: 8})
        zeroq.calibrate(alone, images)
        with torch.no_grad():
            expected = relative_change(model(images), alone(images)).item()
        assert omega.loc[place, 8] == pytest.approx(expected, rel=1e-3 if mode == "exact" else 2)


@pytest.mark.parametrize("output", [None, "values"])
def test_ranges_by_what_the_network_says(images, output):
    model, images = say(3).float(), images.float()
    quantized, clipped = (zeroq.quantize(model, 32, 3, "integer") for _ in range(2))
    for each in (quantized, clipped):
        zeroq.calibrate(each, images)
    clip_ranges(clipped, model, images, output)
    distance = relative_change if output else softmax_kl
    with torch.no_grad():
        assert distance(model(images), clipped(images)) < distance(model(images), quantized(images))


def several(scores):
    return scores, scores.exp()


def detections(scores):
    return [{"boxes": each[:2], "labels": each.argmax(0)} for each in scores]


def ragged(scores):
    return {"logits of it": scores, "boxes": {"sizes": scores}}


@pytest.mark.parametrize(
    ("arrange", "placement", "method"),
    [
        (several, "layer_inputs", "zeroq+"),
        (several, "integer", "zeroq"),
        (several, "integer", "zeroq+"),
        (ragged, "integer", "zeroq+"),
        (detections, "layer_inputs", "zeroq+"),
        (detections, "after_relu", "zeroq+"),
    ],
)
def test_widths_that_are_given_ask_nothing_of_the_output(images, arrange, placement, method):
    bare = say(5).float()
    how = {"images": images.float(), "method": method, "placement": placement, "mixed": False}
    result = zeroq.zero_shot_quantize(Arranged(bare, arrange), SHAPE, 4, 8, **how)
    assert set(result.plan.values()) == {4}
    assert result.sensitivity is None
    assert result.frontier is None
    assert zeroq.zero_shot_quantize(bare, SHAPE, 4, 8, **how).sensitivity is not None
    found = result.model(images[:2].float())
    assert type(found) is type(arrange(torch.zeros(2, 5)))


def test_ranges_stay_whole_where_nothing_is_found(images):
    model, images = Arranged(say(5).float(), several), images.float()
    quantized, clipped = (zeroq.quantize(model, 32, 3, "after_relu") for _ in range(2))
    for each in (quantized, clipped):
        zeroq.calibrate(each, images)
    clip_ranges(clipped, model, images)
    for one, other in zip(*(activation_quantizers(each).values() for each in (quantized, clipped)), strict=True):
        assert torch.equal(one.scale, other.scale)
    with pytest.raises(zeroq.ZeroQError, match="output=2 is no part of the network's output, which is a tuple of 2"):
        clip_ranges(clipped, model, images, 2)


def test_a_plan_for_several_outputs(images):
    model = Arranged(say(5).float(), several)
    result = zeroq.zero_shot_quantize(model, SHAPE, 4, 8, images=images.float(), output=0, placement="integer")
    assert result.plan.average_bits <= 4
    assert (result.sensitivity[2] > 0).all()
    assert result.settings.output == 0


@pytest.mark.parametrize(
    ("arrange", "output", "message"),
    [
        (several, None, r"not a tuple of 2; say where class scores are, output="),
        (detections, None, r"not a list of 1; say where"),
        (ragged, None, r"not a mapping with the keys 'logits of it', 'boxes'; say where"),
        (ragged, "boxes", r"not a mapping with the keys 'sizes'"),
        (ragged, "logits", r"output='logits' is no part of the network's output, which is a mapping with the keys"),
        (several, 2, r"output=2 is no part of the network's output, which is a tuple of 2"),
        (several, "values", r"not a tuple of 2"),
        (lambda scores: scores, 0, r"output=0 is no part of the network's output, which is one tensor \(1, 5\)"),
        (lambda scores: scores, lambda scores: scores.argmax(1), r"not one tensor \(1,\) of torch.int64"),
        (lambda scores: scores[:, None].repeat(1, 2, 1), None, r"not one tensor \(1, 2, 5\)"),
        (lambda scores: 0 * scores, "values", "have no variance"),
        (lambda scores: scores, True, "output must be None, 'scores', 'values', a key, a position or a function"),
        (lambda scores: scores, 1.5, "output must be"),
        (lambda scores: scores / 0, None, "NaN or infinite"),
    ],
)
def test_what_cannot_be_compared_is_refused(images, arrange, output, message):
    with pytest.raises(zeroq.ZeroQError, match=message):
        zeroq.sensitivity(Arranged(say(5), arrange), images, output=output)


@pytest.mark.parametrize("how", [{}, {"mixed": False, "output": 3}, {"output": 1.5}])
def test_and_before_any_work(monkeypatch, how):
    monkeypatch.setattr("zeroq.pipeline.calibration_images", lambda *arguments: pytest.fail("work was begun"))
    with pytest.raises(zeroq.ZeroQError, match="output"):
        zeroq.zero_shot_quantize(Arranged(say(5).float(), several), SHAPE, **how)
