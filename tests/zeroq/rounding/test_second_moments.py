"""Second moments of a layer's inputs, and how far few images are believed."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.zeroq.rounding.test_gram import as_matrix
from zeroq import ZeroQError
from zeroq.rounding.columns import input_columns
from zeroq.rounding.second_moments import SecondMoments


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [1, 2, 9])
def test_they_are_those_of_all_columns(count):
    layer, values = nn.Conv2d(4, 4, 3, padding=1, groups=2), noise(count, 4, 4, 4)
    moments = SecondMoments(layer, [values])
    columns = input_columns(layer, values.double()).transpose(0, 1).transpose(1, 2).flatten(2)
    torch.testing.assert_close(moments.column, columns.mean(2), rtol=1e-5, atol=1e-6)
    expected = columns @ columns.transpose(1, 2) / columns.shape[2]
    torch.testing.assert_close(as_matrix(moments.gram) * moments.unit**2, expected, rtol=1e-5, atol=1e-6)
    assert moments.samples >= 8 or moments.samples == count


def test_calls_are_added_up():
    layer = nn.Linear(5, 2)
    one, other = noise(8, 5), 2 * noise(8, 3, 5)
    both = SecondMoments(layer, [one, other])
    assert both.samples == 16
    torch.testing.assert_close(both.column, (one.mean(0) + other.mean((0, 1))).double()[None] / 2)


def test_many_places_are_sampled():
    layer, values = nn.Conv2d(2, 2, 1), noise(16, 2, 60, 60)
    exact = torch.einsum("nchw,ndhw->cd", values, values).double()[None] / (16 * 60 * 60)
    with FlopCounterMode(display=False) as counter:
        moments = SecondMoments(layer, [values])
    products = counter.get_flop_counts()["Global"]
    assert products[torch.ops.aten.bmm] == 16 * 16 * 2 * 2 * 2  # images, places of each, pairs of inputs
    assert (as_matrix(moments.gram) * moments.unit**2 - exact).abs().max() < 0.2
    assert torch.equal(as_matrix(moments.gram), as_matrix(SecondMoments(layer, [values]).gram))


@pytest.mark.parametrize("layer", [nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(12, 3)])
def test_white_noise_is_not_taken_for_structure(layer):
    shape = (32, 12) if isinstance(layer, nn.Linear) else (32, 8, 12, 12)
    moments, share = SecondMoments(layer, [noise(*shape)]).shrunk()
    assert share > 0.9
    moments = as_matrix(moments)
    off = moments - torch.diag_embed(moments.diagonal(dim1=1, dim2=2))
    assert off.abs().max() < 0.05 * moments.diagonal(dim1=1, dim2=2).min()


def test_more_images_are_believed_more():
    mixing = noise(6, 6)
    shares = [SecondMoments(nn.Linear(6, 2), [noise(count, 6) @ mixing]).shrunk()[1] for count in (4, 16, 64, 4096)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 0.01


@pytest.mark.parametrize(
    ("layer", "values"),
    [
        (nn.Linear(5, 2), noise(1, 5)),  # one image, one place
        (nn.Conv2d(4, 4, 3), noise(1, 4, 3, 3)),
        (nn.Conv2d(4, 4, 1), torch.zeros(8, 4, 5, 5)),  # nothing arrives
        (nn.Conv2d(4, 4, 1), noise(8, 1, 5, 5).expand(8, 4, 5, 5)),  # all inputs the same
        (nn.Conv2d(4, 4, 1), noise(8, 4, 5, 5) * torch.tensor([1, 1, 0, 1e-20])[:, None, None]),
        (nn.Conv2d(4, 4, 1), noise(8, 4, 5, 5).half() * 1000),
        (nn.Linear(64, 2), noise(32, 64) * 1e-22),  # squares are below float32's smallest
        (nn.Linear(64, 2), noise(32, 64) * 1e30),  # and above its largest
        (nn.Conv2d(4, 4, 1), noise(8, 4, 5, 5).bfloat16()),
    ],
)
def test_what_is_left_can_be_inverted(layer, values):
    moments, share = SecondMoments(layer, [values]).shrunk()
    assert torch.linalg.cholesky_ex(as_matrix(moments)).info.max() == 0
    assert 0 <= share <= 1
    if values[0].numel() == 5:
        assert share == 1


def test_inputs_that_are_not_finite_are_refused():
    with pytest.raises(ZeroQError, match="NaN or infinite"):
        SecondMoments(nn.Linear(2, 2), [torch.tensor([[1.0, float("inf")]])])
    with pytest.raises(ZeroQError, match="NaN or infinite"):
        SecondMoments(nn.Linear(2, 2), [torch.tensor([[1.0, float("nan")]])])
