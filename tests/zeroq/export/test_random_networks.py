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
from zeroq.export.lowering import explicit, lowered
from zeroq.export.runtime import OnnxNetwork
from zeroq.export.verify import ONE_STEP, SAME, first_difference

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
        integer = placement == "integer"
        reference = integer_arithmetic(quantized, SHAPE) if integer else lowered(explicit(quantized, SHAPE))[0]
        wanted = reference(images)
        assert (wanted - expected).abs().max() < 0.2 * largest
        if not (found - wanted).abs().max() < SAME * largest:
            first = first_difference(report.path, reference, images)
            assert first is not None
            assert first.steps < ONE_STEP, first  # one rounding that fell to the other side


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
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(network=networks(), placement=st.sampled_from(["integer", "layer_inputs"]))
def test_the_four_agree_on_many(placement, network):
    with tempfile.TemporaryDirectory() as folder:
        check(network, placement, Path(folder))
