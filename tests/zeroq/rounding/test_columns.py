"""A layer's output is the rows of its weight times the columns of its input, whatever the layer."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from zeroq.rounding.columns import MOST_INPUTS, input_columns, summed_outputs, weight_of_rows, weight_rows

LAYERS = {
    "linear": (nn.Linear(6, 4), (3, 6)),
    "tokens": (nn.Linear(6, 4), (3, 5, 6)),
    "convolution": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (3, 4, 9, 8)),
    "dilated": (nn.Conv2d(4, 6, (3, 1), dilation=2, padding=(2, 0)), (3, 4, 9, 8)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), (3, 4, 9, 8)),
    "depthwise": (nn.Conv2d(4, 8, 5, padding=2, groups=4), (3, 4, 9, 8)),
    "reflecting": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (3, 4, 9, 8)),
    "one axis": (nn.Conv1d(4, 6, 3, padding=1), (3, 4, 9)),
    "three axes": (nn.Conv3d(2, 3, 3, padding=1), (2, 2, 5, 4, 3)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (3, 4, 5, 6)),
    "transposed, grouped": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (3, 4, 5, 6)),
    "transposed, one axis": (nn.ConvTranspose1d(4, 6, 4, stride=3, dilation=2), (3, 4, 7)),
    "padded by its own forward": (Conv2dSame(4, 6, 3, stride=2), (3, 4, 9, 8)),
}


@pytest.mark.parametrize("most_inputs", [MOST_INPUTS, 5])
@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_columns_are_the_output(name, most_inputs, monkeypatch):
    monkeypatch.setattr("zeroq.rounding.columns.MOST_INPUTS", most_inputs)
    layer, shape = LAYERS[name]
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rows, columns = weight_rows(layer, layer.weight.detach()), input_columns(layer, values)
    assert rows.shape[2] == columns.shape[2] <= most_inputs
    summed = [torch.stack([summed_outputs(layer, place) for place in image.unbind(2)], 1) for image in rows @ columns]
    product = torch.stack(summed) + layer.bias.detach()[:, None]
    output = layer(values)
    if isinstance(layer, nn.Linear):
        output = output.reshape(len(values), -1, output.shape[-1]).transpose(1, 2)
    torch.testing.assert_close(product, output.flatten(2), rtol=1e-5, atol=1e-5)
    assert torch.equal(weight_of_rows(layer, rows), layer.weight)


def test_a_layer_is_left_as_it_was():
    layer = nn.Conv2d(4, 6, 3, groups=2)
    layer.register_forward_hook(lambda *_: pytest.fail("a hook of the caller's was called"))
    before = dict(vars(layer)), {name: value.clone() for name, value in layer.state_dict().items()}
    input_columns(layer, torch.ones(1, 4, 5, 5))
    assert vars(layer) == before[0]
    assert all(torch.equal(before[1][name], value) for name, value in layer.state_dict().items())
