"""PT2E's quantization, where requirements-tools.txt is installed."""

from importlib import import_module

import pytest

pytest.importorskip("torchao")


def test_rounds_to_eight_bits(no_norm, images):
    quantized = import_module("experiments.tools.with_pt2e").quantize(no_norm, images)
    expected = no_norm(images)
    error = (quantized(images[:3]) - expected[:3]).abs().max()  # any number of images, not those of calibration alone
    assert 0 < error < 0.1 * expected.abs().max()
