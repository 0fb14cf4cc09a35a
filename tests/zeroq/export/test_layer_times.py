"""Times of layers: each kernel of a profile belongs to the layer that it computes, and what a file says is computed."""

import numpy
import onnx
import pytest
import torch

import zeroq
from tests.zeroq.export.networks import calibrated
from zeroq.export.layer_times import times_of_layers
from zeroq.export.owners import owners_of_kernels, owners_of_words
from zeroq.export.runtime import OnnxNetwork, kernels, profile

LAYERS = ["stem.0", "branch.0", "branch.3", "head"]


@pytest.mark.parametrize("placement", ["integer", "layer_inputs"])
@pytest.mark.parametrize("bits", [8, 32])
def test_every_layer_has_its_kernels_and_no_other(residual, images, tmp_path, placement, bits):
    path = zeroq.export_onnx(
        calibrated(residual, images, bits, placement=placement), tmp_path / "file.onnx", images
    ).path
    words = owners_of_words(onnx.load(path).graph, LAYERS)
    graph, found = profile(path, images[:1], threads=1, repetitions=2)
    owners = owners_of_kernels(graph, words)
    assert set(owners.values()) == set(LAYERS)
    computing = [node for node in graph.node if node.op_type in ("Conv", "FusedConv", "QLinearConv")]
    assert len(computing) == 3
    # One convolution for each of the three layers, in the order of the network.
    assert [owners[node.name] for node in computing] == LAYERS[:3]
    apart = [node.op_type for node in graph.node if "Pool" in node.op_type or node.op_type in ("QLinearAdd", "Add")]
    assert apart
    assert not [node for node in graph.node if "Pool" in node.op_type and node.name in owners]
    assert {name for name, _ in found} <= {node.name for node in graph.node}
    totals = times_of_layers(found, owners, [*LAYERS, "unused"], 2)
    assert totals["unused"] == 0
    assert all(totals[name] > 0 for name in LAYERS)


def test_the_slowest_quarter_does_not_count():
    kernels_found = [("one", each) for each in (1, 2, 3, 100)] + [("two", 4), ("two", 4), ("other", 9)]
    assert times_of_layers(kernels_found, {"one": "a", "two": "a"}, ["a", "b"], 2) == {"a": 2 * 2 + 4, "b": 0}


def test_a_table_that_a_budget_takes(residual, images):
    times = zeroq.layer_times(residual, images, placement="integer", threads=1, repetitions=3)
    assert list(times.index) == LAYERS
    assert list(times.columns) == [8, 32]
    assert (times.to_numpy() > 0).all()
    omega = zeroq.SensitivityTable.of(times[[8]], dict.fromkeys(LAYERS, 1))
    pairs = zeroq.pair_sensitivities(omega, 8, with_float=True)
    costs = zeroq.time_costs(times, pairs)
    assert numpy.abs(costs.to_numpy() * 1e-4 - times.to_numpy()).max() <= 0.5e-4
    with pytest.raises(zeroq.ZeroQError, match="repetitions"):
        zeroq.layer_times(residual, images, repetitions=0)


def test_float_weights_between_quantized_activations_stay_float(residual, images, tmp_path):
    quantized = calibrated(residual, images, 32, placement="integer")
    path = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images).path
    assert kernels(path)["QLinearConv"] == 0
    expected = zeroq.integer_arithmetic(quantized)(images)["scores"]
    torch.testing.assert_close(OnnxNetwork(path)(images)["scores"], expected, rtol=1e-4, atol=1e-5)
