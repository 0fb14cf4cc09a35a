"""The table of operators: what each row says is tried on random tensors, for every module, function and method."""

import operator

import pytest
import torch
from torch import fx, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

import zeroq
from tests.zeroq.graph.operator_calls import ARGUMENTS, EVERY, a_call, compute, example, values, with_property
from zeroq.graph import operators
from zeroq.graph.placement import only_leads_out


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
