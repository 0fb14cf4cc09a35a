"""A network of ImageNet on a photograph: what its layers need of images that are not real."""

import matplotlib.cbook
import pytest
import torch
from torch import nn

import zeroq
from zeroq.datasets.photographs import preprocessing, read_photograph
from zeroq.layers import weighted_layers
from zeroq.modules import replaced_weight
from zeroq.networks import efficientnet_lite
from zeroq.quantization.affine import FLOAT_BITS
from zeroq.quantization.bias_correction import correct_biases
from zeroq.quantization.convert import convert
from zeroq.rounding.candidates import at_widths
from zeroq.rounding.drift import correct_drift
from zeroq.rounding.second_moments import SecondMoments
from zeroq.rounding.trust import statistics_mismatch

COUNT, SIZE = 8, 64


@pytest.fixture(scope="module")
def lite0():
    return efficientnet_lite.load()


@pytest.fixture(scope="module")
def photograph(lite0) -> torch.Tensor:
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return preprocessing(lite0.input)(read_photograph(path))[None]


@pytest.fixture(scope="module")
def natural(lite0) -> torch.Tensor:
    return zeroq.distill_natural(lite0.module, (3, SIZE, SIZE), COUNT, 30, limits=lite0.input.limits)


def rounded(layer: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """A layer's 4-bit weight, compensated on its inputs."""
    return at_widths(layer, SecondMoments(layer, [images]), 0.0, [4], per_channel=True, symmetric=False, refined=True)[
        0
    ]


def test_a_first_layer_rounded_on_white_images_errs_on_photographs(lite0, natural, photograph):
    """BatchNorm statistics do not say how neighbouring pixels go together; the spectrum of natural images does."""
    layer = weighted_layers(lite0.module)["conv_stem"]
    white = zeroq.distill_fast(lite0.module, (3, SIZE, SIZE), COUNT, 30, limits=lite0.input.limits)
    errors = {}
    with torch.no_grad():
        expected = layer(photograph)
        for name, images in (("white", white), ("natural", natural), ("photograph", photograph)):
            with replaced_weight(layer, rounded(layer, images)):
                errors[name] = (layer(photograph) - expected).square().mean().item()
    assert errors["natural"] < errors["white"] / 2
    assert errors["natural"] < 4 * errors["photograph"]


def test_what_the_images_show_is_not_taken_for_an_error_of_scores(lite0, natural):
    """Correcting all of the mean error moves the scores' biases by what these few images happen to show."""
    network = lite0.module
    moved, before = {}, network.classifier.bias.detach()
    for correct in (
        lambda quantized: correct_biases(quantized, network, natural),
        lambda quantized: correct_drift(quantized, network, natural, statistics_mismatch(network, natural)),
    ):
        quantized = convert(network, FLOAT_BITS, 4)
        zeroq.calibrate(quantized, natural)
        parts = correct(quantized)
        moved["all" if parts is None else "part"] = (quantized.classifier.bias - before).abs().mean().item()
    assert parts["classifier"] < 0.2
    assert parts["conv_stem"] < 0.2
    assert moved["part"] < 0.5 * moved["all"]
