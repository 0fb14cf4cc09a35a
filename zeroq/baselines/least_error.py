"""Ranges of least squared error: the grid whose values are, together, closest to a tensor's own."""

import torch
from torch import nn

from zeroq.layers import channel_axis, weighted_layers
from zeroq.quantization.affine import FLOAT_BITS, affine_parameters, fake_quantize
from zeroq.quantization.layers import store_weight

# Factors of both ends. First the whole range is shrunk, to a 64th at most, as it is and with either end much closer to
# 0: few bits leave few zero points, and the best scale differs from one to the next. Then each end moves on its own.
SHRUNK = torch.logspace(0, -6, 41, base=2).tolist()
TILTS = ((1, 1), (0.5, 1), (0.25, 1), (1, 0.5), (1, 0.25))
COARSE = torch.logspace(-0.4, 0.4, 17, base=2).tolist()
FINE = torch.logspace(-0.06, 0.06, 17, base=2).tolist()
MOVES = (
    [(low * share, high * share) for low, high in TILTS for share in SHRUNK],
    *([move for factor in factors for move in ((factor, 1), (1, factor))] for factors in (COARSE, FINE)),
    [(factor, factor) for factor in FINE],
)
SYMMETRIC_MOVES = tuple([(factor, factor) for factor in factors] for factors in (SHRUNK, COARSE, FINE))
# More values of an activation are sampled.
MOST_VALUES = 2**20


def least_error_ends(values: torch.Tensor, bits: int, *, symmetric: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The ends of the grids whose quantized values are closest to ``values`` [rows, values], each [rows].

    Found by trying: Σ (x − x̂)² is no higher than that of the min–max grid, the first that is tried, and no range is
    wider. Choukroun et al. 2019 search for the one scale of a symmetric grid.
    """
    low, high = values.amin(1).clamp_max(0), values.amax(1).clamp_min(0)
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    whole = ends = torch.stack([low, high])
    least = _squared_errors(values, ends, bits, symmetric=symmetric)
    for moves in SYMMETRIC_MOVES if symmetric else MOVES:
        start = ends
        for factors in moves:
            tried = start * start.new_tensor(factors)[:, None]
            tried = torch.where(tried.abs() > whole.abs(), whole, tried)
            error = _squared_errors(values, tried, bits, symmetric=symmetric)
            ends = torch.where(error < least, tried, ends)
            least = torch.minimum(error, least)
    return ends[0], ends[1]


def least_error_range(values: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The ends of an activation's grid of least squared error; of more than a million values, by a sample of them."""
    flat = values.flatten()
    if len(flat) > MOST_VALUES:
        chosen = torch.randint(len(flat), (MOST_VALUES,), generator=torch.Generator().manual_seed(0))
        flat = flat[chosen.to(flat.device)]
    low, high = least_error_ends(flat[None].float(), bits)
    return low[0], high[0]


def set_least_error_weights(quantized: nn.Module, model: nn.Module, *, per_channel: bool, symmetric: bool) -> None:
    """Quantize the weights of a converted network again, with ranges of least squared error.

    ``model`` is the float network that ``quantized`` was made of, which is changed in place and keeps its bits.
    """
    originals = weighted_layers(model)
    for name, layer in weighted_layers(quantized).items():
        bits = int(layer.get_buffer("weight_bits"))
        if bits == FLOAT_BITS:
            continue
        weight = originals[name].weight.detach()
        rows = weight.movedim(channel_axis(layer), 0).flatten(1) if per_channel else weight.reshape(1, -1)
        low, high = least_error_ends(rows.float(), bits, symmetric=symmetric)
        if not per_channel:
            low, high = low[0], high[0]
        store_weight(layer, weight, affine_parameters(low, high, bits, symmetric=symmetric), bits)


def _squared_errors(values: torch.Tensor, ends: torch.Tensor, bits: int, *, symmetric: bool) -> torch.Tensor:
    parameters = affine_parameters(ends[0], ends[1], bits, symmetric=symmetric)
    return fake_quantize(values, parameters).sub_(values).square_().sum(1)
