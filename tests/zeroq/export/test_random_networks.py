"""Float network, simulation, integer arithmetic and file say the same, of networks drawn at random."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import zeroq
from tests.zeroq.export.random_networks import SIDE, networks
from zeroq.export.integer_arithmetic import integer_arithmetic
from zeroq.export.runtime import OnnxNetwork

SHAPE = (3, SIDE, SIDE)


def check(network: torch.nn.Module, placement: str, folder: Path) -> None:
    images = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
    quantized = zeroq.quantize(network, 8, 8, placement, input_shape=SHAPE)
    zeroq.calibrate(quantized, images)
    with torch.no_grad():
        simulated = quantized(images)
        assert simulated.isfinite().all()
        largest = expected.abs().max()
        assert (simulated - expected).abs().max() < 0.15 * largest
        report = zeroq.export_onnx(quantized, folder / "file.onnx", images)  # which compares on images of its own
        found = OnnxNetwork(report.path)(images)
        reference = integer_arithmetic(quantized, SHAPE)(images) if placement == "integer" else simulated
        assert (found - reference).abs().max() < (0.05 if report.first_difference else 0.03) * largest
        assert (found - expected).abs().max() < 0.2 * largest


@pytest.mark.parametrize("placement", ["integer", "layer_inputs"])
@settings(
    max_examples=4,
    derandomize=True,
    phases=[Phase.generate],  # to shrink a network exports hundreds
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(network=networks())
def test_the_four_agree(placement, network):
    with tempfile.TemporaryDirectory() as folder:
        check(network, placement, Path(folder))


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=networks(), placement=st.sampled_from(["integer", "layer_inputs"]))
def test_the_four_agree_on_many(placement, network):
    with tempfile.TemporaryDirectory() as folder:
        check(network, placement, Path(folder))
