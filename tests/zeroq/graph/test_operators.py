"""The table of operators: what each row says is tried on random tensors, for every module, function and method."""

import math
import operator

import pytest
import torch
from torch import fx, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

import zeroq
from tests.zeroq.graph.operator_calls import ARGUMENTS, OF_WHOLE, a_call, example, values
from zeroq.graph import operators
from zeroq.graph.operator_rows import OPERATORS
from zeroq.graph.placement import only_leads_out

EVERY = [(row, kind) for row in OPERATORS for kind in row.kinds if kind not in OF_WHOLE]
CONSTANTS = torch.tensor([-1.0, 0.5, 2.0, 3.5])  # one for each of four channels


def with_property(name: str) -> pytest.MarkDecorator:
    """Every kind of the rows that have a property."""
    some = [pair for pair in EVERY if getattr(pair[0], name) not in (False, None)]
    return pytest.mark.parametrize(("row", "kind"), some, ids=[getattr(kind, "__name__", kind) for _, kind in some])


def compute(graph: fx.GraphModule, given: torch.Tensor) -> torch.Tensor:
    """All that an operator gives, as one tensor."""
    outputs = tree_leaves(graph(given.clone()))
    return outputs[0] if len(outputs) == 1 else torch.cat([each.flatten() for each in outputs])


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, atol=1e-5)


def test_no_kind_is_two_operators():
    kinds = [kind for _, kind in EVERY]
    assert len(set(kinds)) == len(kinds)


@with_property("elementwise")
def test_elementwise(row, kind):
    graph, node = example(kind)
    given = values(kind)
    order = tuple(range(given.dim()))
    assert same(compute(graph, given.flip(order)), compute(graph, given).flip(order))
    assert same(compute(graph, 2.5 * given), 2.5 * compute(graph, given))
    assert all(operators.scales(graph, node, axes) for axes in (0, 1, 2, 3))


@with_property("within_channels")
def test_within_channels(row, kind):
    graph, node = example(kind)
    given = values(kind)
    output = compute(graph, given)
    assert same(compute(graph, 2.5 * given), 2.5 * output)
    assert output.dim() == row.within_channels + 2
    for channel in range(4):
        changed = given.clone()
        changed[:, channel] += 1
        others = [each for each in range(4) if each != channel]
        assert same(compute(graph, changed)[:, others], output[:, others])
    assert [operators.scales(graph, node, axes) for axes in (0, 1, 2, 3)] == [
        axes == row.within_channels for axes in (0, 1, 2, 3)
    ]


@with_property("shifts")
def test_a_constant_of_a_channel_passes(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    constants = CONSTANTS.view(1, 4, *(1 for _ in given.shape[2:])).expand_as(given)
    passed = compute(graph, constants)
    assert same(compute(graph, given + constants), compute(graph, given) + passed)
    expected = CONSTANTS.view(1, 4, 1).expand(2, 4, passed.numel() // 8)  # flattened or not
    assert same(passed.reshape(2, 4, -1), expected)


@pytest.mark.parametrize(
    ("kind", "arguments", "named", "ends"),
    [
        *((kind, (), {}, (0, math.inf)) for kind in (nn.ReLU, functional.relu, torch.relu)),
        *((kind, (), {}, (0, math.inf)) for kind in ("relu",)),
        *((kind, (), {}, (0, 6)) for kind in (nn.ReLU6, functional.relu6)),
        *((kind, (), {}, (-1, 1)) for kind in (nn.Hardtanh, functional.hardtanh)),
        *((kind, (-2, 3.5), {}, (-2, 3.5)) for kind in (nn.Hardtanh, functional.hardtanh)),
        (functional.hardtanh, (), {"max_val": 6, "min_val": 0}, (0, 6)),
        *((kind, (0, 6), {}, (0, 6)) for kind in (torch.clamp, torch.clip)),
        *((kind, (None, 6), {}, (-math.inf, 6)) for kind in ("clamp", "clip")),
        *((kind, (), {"min": 1}, (1, math.inf)) for kind in (torch.clamp, "clamp")),
        *((kind, (1,), {}, (1, math.inf)) for kind in (torch.clamp_min, "clamp_min")),
    ],
)
def test_clamps(kind, arguments, named, ends):
    graph, node = a_call(kind, *arguments, **named)
    given = values()
    assert operators.clamps(graph, node)
    assert operators.clamp_ends(graph, node) == ends
    assert operators.rectifies(graph, node) == (ends == (0, math.inf))
    assert torch.equal(compute(graph, given), given.clamp(*ends))


def test_every_clamp_has_ends():
    for row, kind in EVERY:
        graph, node = example(kind)
        assert (
            operators.clamps(graph, node) == (operators.clamp_ends(graph, node) is not None) == bool(row.clamps_between)
        )
    graph, node = a_call(torch.clamp, torch.zeros(1))
    assert operators.clamp_ends(graph, node) is None


@with_property("moves")
def test_moving_gives_no_other_values(row, kind):
    graph, node = example(kind)
    given = values(kind)
    moved = graph(given)[0] if kind in operators.GIVE_INDICES else compute(graph, given)
    found = torch.isin(moved.to(given), torch.cat([given.flatten(), torch.zeros(1)])).all()
    assert operators.moves(graph, node) == found == (kind is not nn.UpsamplingBilinear2d)
    assert operators.computes(graph, node) != operators.moves(graph, node)


@pytest.mark.parametrize(
    ("kind", "arguments", "named", "moving"),
    [
        *((nn.Upsample, (None, 2, mode), {}, mode != "bilinear") for mode in ("nearest", "nearest-exact", "bilinear")),
        (functional.interpolate, (None, 2, "bilinear"), {}, False),
        (functional.interpolate, (), {"scale_factor": 2, "mode": "bilinear"}, False),
        (functional.interpolate, (), {"scale_factor": 2}, True),
        (functional.pad, ((1, 1), "constant", 0.5), {}, False),
        (functional.pad, ((1, 1),), {"value": 0.5}, False),
        (functional.pad, ((1, 1, 1, 1), "reflect"), {}, True),
        (functional.pad, ((1, 1),), {"value": 0}, True),
        (functional.silu, (), {}, False),
    ],
)
def test_moving_by_options(kind, arguments, named, moving):
    graph, node = a_call(kind, *arguments, **named)
    given = values()
    assert operators.moves(graph, node) == moving
    assert torch.isin(compute(graph, given), torch.cat([given.flatten(), torch.zeros(1)])).all() == moving


@with_property("passes_moments")
def test_means_deviations_and_ends_pass_alike(row, kind):
    """Sums with weights of 0 and more, and largest values: they keep an order, scale, and let a constant pass."""
    graph, _ = example(kind)
    given = values(kind)
    ones = torch.ones_like(given)
    higher = given + torch.rand(given.shape, generator=torch.Generator().manual_seed(1))
    assert (compute(graph, higher) >= compute(graph, given)).all()
    assert same(compute(graph, 2.5 * given), 2.5 * compute(graph, given))
    assert same(compute(graph, given + ones), compute(graph, given) + compute(graph, ones))


@with_property("pointwise")
def test_what_works_place_by_place(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    output = compute(graph, given)
    order = tuple(range(given.dim()))
    assert torch.allclose(compute(graph, given.flip(order)), output.flip(order), equal_nan=True)
    changed = given.clone()
    changed[0, 0, 0, 0] += 1
    assert torch.allclose(compute(graph, changed).flatten()[1:], output.flatten()[1:], equal_nan=True)


@with_property("contracts")
def test_sums_of_products(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    assert same(compute(graph, given), torch.einsum("...ij,...jk->...ik", given, given))


@with_property("normalizes")
def test_normalizing_gives_mean_0_and_deviation_1(row, kind):
    graph, node = example(kind)
    output = compute(graph, values(kind)).detach()
    axis = -1 if row.normalizes == "last" else 1
    mean = 0 if "rms" in node.name or kind is nn.RMSNorm else output.mean()
    assert mean == pytest.approx(0, abs=1e-5)
    assert output.square().mean() == pytest.approx(1, abs=1e-4)
    module = operators.called(graph, node)
    weight = getattr(module, "weight", None)
    if weight is not None:  # one for each place along the axis
        weight.data = torch.arange(1.0, 1 + output.shape[axis])
        factors = (compute(graph, values(kind)) / output).movedim(axis, -1)
        assert same(factors, weight.data.expand_as(factors))


@with_property("weighs")
def test_weights(row, kind):
    graph, _ = example(kind)
    output = compute(graph, values(kind))
    assert (output >= 0).all()
    assert same(output.sum(1), torch.ones(2, 6, 6))


@with_property("attends")
def test_attention_stays_within_values(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    output = compute(graph, given)
    assert (output <= given.amax(-2, keepdim=True) + 1e-5).all()
    assert (output >= given.amin(-2, keepdim=True) - 1e-5).all()


@with_property("fills")
def test_what_fills_looks_at_no_value(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    assert torch.equal(compute(graph, given), compute(graph, 2 * given))


@with_property("joins")
def test_joining_keeps_all_values(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    assert torch.equal(compute(graph, given).flatten().sort().values, torch.cat([given, given]).flatten().sort().values)


@with_property("adds")
def test_adding(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    assert torch.equal(compute(graph, given), 2 * given)


@pytest.mark.parametrize(
    ("name", "result"),
    [("subtracts", torch.zeros_like), ("multiplies", torch.square), ("divides", torch.ones_like)],
)
def test_other_arithmetic(name, result):
    kinds = [kind for row, kind in EVERY if getattr(row, name)]
    assert kinds
    for kind in kinds:
        assert torch.equal(compute(example(kind)[0], values(kind)), result(values(kind))), kind


@with_property("several")
def test_several_tensors(row, kind):
    graph, node = example(kind)
    assert len(graph(values(kind))) > 1
    assert not operators.gives_several(graph, node)  # the output takes all
    with graph.graph.inserting_after(node):
        item = graph.graph.call_function(operator.getitem, (node, 0))
    node.replace_all_uses_with(item, delete_user_cb=lambda user: user is not item)
    assert operators.gives_several(graph, node)
    assert operators.takes_item(item)


@with_property("counts")
def test_whole_numbers(row, kind):
    graph, node = example(kind)
    assert not any(each.is_floating_point() for each in tree_leaves(graph(values(kind))))
    assert node in operators.whole_nodes(graph)


@with_property("arithmetic")
def test_arithmetic_is_of_each_value_alone(row, kind):
    graph, _ = example(kind)
    given = values(kind)
    assert torch.equal(compute(graph, given.flip(0, 1, 2, 3)), compute(graph, given).flip(0, 1, 2, 3))


@pytest.mark.parametrize(
    ("network", "whole"),
    [
        (lambda x: (x > 0) & ~(x < 6), True),
        (lambda x: x * (x > 0), False),
        (lambda x: (torch.arange(3) + 1).expand_as(x), True),
        (lambda x: torch.arange(3) / 2 + x.argmax(1), False),
        (lambda x: x.argmax(1) * 2 - 1, True),
        (lambda x: x.argmax(1) * 0.5, False),
        (lambda x: x.argmax(1) / 2, False),
        (lambda x: x.argmax(1).float(), False),
        (lambda x: x.to(torch.int64) + 1, True),
        (lambda x: torch.max(x, 1)[1], True),
        (lambda x: torch.max(x, 1)[0], False),
        (lambda x: torch.cat([x.argmax(1), x.argmin(1)]), True),
        (lambda x: x.argmax(1).to(x.device).view(-1), True),
    ],
)
def test_what_is_known_to_be_whole(network, whole):
    graph = fx.symbolic_trace(network)
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    assert (output.args[0] in operators.whole_nodes(graph)) is whole
    assert graph(torch.randn(3, 3)).is_floating_point() is not whole


@with_property("scores")
def test_probabilities(row, kind):
    graph, _ = example(kind)
    output = compute(graph, values(kind))
    probabilities = output.exp() if "log" in str(kind).lower() else output
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert all(only_leads_out(graph, node) for node in graph.graph.nodes)


@with_property("asks")
def test_what_is_asked_for_is_no_tensor(row, kind):
    graph, _ = example(kind)
    assert not any(isinstance(each, torch.Tensor) for each in tree_leaves(graph(values(kind))))


@with_property("flattens")
def test_flattening(row, kind):
    def flattened(*arguments, **named) -> bool:
        graph, node = a_call(kind, *arguments, **named)
        vectors = graph(values(kind)).shape == (2, 144)
        assert operators.flattens_maps(graph, node) == vectors
        return vectors

    assert flattened(1)
    assert flattened(start_dim=1, end_dim=-1)
    assert not flattened(2)
    assert not flattened(1, 2)
    assert flattened() == (kind is nn.Flatten)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        *((kind, ARGUMENTS.get(kind, ())) for _, kind in EVERY),
        *((kind, (True,)) for kind in (nn.ReLU, nn.ReLU6, functional.relu, functional.relu6, nn.SiLU)),
        *((kind, (True,)) for kind in (functional.silu, functional.hardswish)),
        (functional.elu, (1.0, True)),
        (functional.elu, (1.0,)),
        ("mul_", (2,)),
        (operator.imul, (2,)),
        (operator.isub, (2,)),
        (operator.itruediv, (2,)),
        (functional.avg_pool2d, (3, 2, 1, True)),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:40]),
)
def test_what_changes_its_input(kind, arguments):
    graph, node = a_call(kind, *arguments)
    given = values(kind)
    graph(given)
    assert operators.in_place(graph, node) != torch.equal(given, values(kind))


def test_logical_operators_change_nothing():
    graph, node = a_call(operator.and_, True)
    given = torch.tensor([True, False])
    graph(given)
    assert not operators.in_place(graph, node)


def test_names_say_nothing():
    """A module that is called clamp, and an operator that no row has."""
    graph, node = a_call(nn.LocalResponseNorm, 2)
    assert node.target == "clamp"
    assert operators.operator_of(graph, node) is operators.UNKNOWN
    assert not operators.clamps(graph, node)
    assert operators.clamp_ends(graph, node) is None
    placeholder, _, output = graph.graph.nodes
    assert all(operators.operator_of(graph, each) is operators.UNKNOWN for each in (placeholder, output))


def test_a_class_of_its_own_is_what_it_inherits_from():
    class Own(nn.MaxPool2d):
        pass

    graph, node = a_call(Own, 2)
    assert operators.operator_of(graph, node) is operators.ROWS[nn.MaxPool2d]


USUAL = {
    "rectify": functional.relu,
    "clamp": functional.relu6,
    "copy": nn.Identity(),
    "join": torch.cat,
    "rectify_last": functional.relu,
}


class Spelled(nn.Module):
    """One network, in which operators may be spelled otherwise than in ``USUAL``."""

    def __init__(self, **spelling):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Conv2d(channels, 8, 3, bias=False) for channels in (3, 8, 8, 8))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in self.layers)
        for norm in self.norms:
            norm.running_mean.normal_()
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.uniform_(norm.bias, -1, 5)
        self.last = nn.Linear(16, 5)
        for name, spelled in (USUAL | spelling).items():
            setattr(self, name, spelled)

    def forward(self, images):
        features = images
        for layer, norm, activation in zip(
            self.layers, self.norms, (self.rectify, self.clamp, self.copy), strict=False
        ):
            features = activation(norm(layer(features)))
        features = self.rectify_last(self.norms[3](self.layers[3](features)))
        pooled = functional.adaptive_avg_pool2d(features, 1).flatten(1)
        return self.last(self.join([pooled, pooled + 1], 1))


@pytest.mark.parametrize(
    "spelling",
    [
        {"rectify": torch.relu_},
        {"clamp": nn.Hardtanh(0, 6)},
        {"clamp": lambda given: functional.hardtanh_(given, 0, 6)},
        {"clamp": lambda given: torch.clamp_(given, 0, 6)},
        {"copy": torch.clone},
        {"join": torch.concat},
        {"rectify_last": lambda given: given.clamp_min(0)},
    ],
)
def test_dfq_knows_every_name_of_an_operator(spelling, images):
    settings = zeroq.Settings(4, 8, mixed=False)
    networks = Spelled().eval(), Spelled(**spelling).eval()
    expected, found = (zeroq.quantize_with_dfq(each, (3, 16, 16), settings).model for each in networks)
    assert torch.equal(found(images), expected(images))
