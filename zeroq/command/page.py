"""One page of HTML with all that is known of a quantized network; it loads nothing from elsewhere."""

import base64
import io
import math
from pathlib import Path
from typing import Any

import jinja2
import torch
from PIL import Image
from torchvision.utils import make_grid

from zeroq.command.outcome import Outcome
from zeroq.command.presentation import PLAN_COLUMNS, fact_rows, plan_rows
from zeroq.datasets.photographs import COLOUR, GREY
from zeroq.mixed_precision.sensitivity import SensitivityTable
from zeroq.networks.pretrained import InputSpecification

MOST_IMAGES, IMAGES_A_ROW = 16, 8
WIDTH, HEIGHT, MARGIN = 900, 260, 50  # pixels
COLOURS = {2: "#d1495b", 3: "#e07a3f", 4: "#edae49", 5: "#9bb46c", 6: "#66a182", 7: "#2e8f9e", 8: "#00798c"}


def page(outcome: Outcome) -> str:
    """The page's text."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    result = outcome.result
    return templates.get_template("page.html").render(
        name=outcome.network.name,
        facts=fact_rows(outcome),
        columns=PLAN_COLUMNS,
        plan=plan_rows(outcome),
        chart=None if result.sensitivity is None else chart(result.sensitivity),
        picture=None if result.images is None else picture(result.images, outcome.network.input),
        seconds=[(stage, f"{seconds:.1f} s") for stage, seconds in outcome.seconds.items()],
    )


def chart(omega: SensitivityTable) -> dict[str, Any]:
    """Where the points of Ω by layer lie in a picture of ``WIDTH`` × ``HEIGHT`` pixels, on a logarithmic scale.

    What is 0 has no place on it, and is left out.
    """
    measured = [value for value in omega.to_numpy().flatten().tolist() if value > 0]
    low = math.floor(math.log10(min(measured, default=1)))
    high = max(math.ceil(math.log10(max(measured, default=1))), low + 1)

    def across(layer: int) -> float:
        return round(MARGIN + (WIDTH - 2 * MARGIN) * layer / max(len(omega) - 1, 1), 1)

    def down(decade: float) -> float:
        return round(HEIGHT - MARGIN / 2 - (HEIGHT - MARGIN) * (decade - low) / (high - low), 1)

    lines = []
    for bits in omega.columns:
        values = [(layer, name, omega.loc[name, bits]) for layer, name in enumerate(omega.index)]
        points = [(across(layer), down(math.log10(value)), name, value) for layer, name, value in values if value > 0]
        lines.append({"bits": int(bits), "colour": COLOURS[int(bits)], "points": points})
    step = math.ceil((high - low) / 6)
    ticks = [(down(decade), f"1e{decade}") for decade in range(low, high + 1, step)]
    return {"width": WIDTH, "height": HEIGHT, "margin": MARGIN, "lines": lines, "ticks": ticks}


def picture(images: torch.Tensor, specification: InputSpecification | None) -> str | None:
    """Some of the images as the address of a PNG that holds them; None where they have no colours.

    Where the normalisation is not known, each image's own range is black to white.
    """
    if images.shape[1] not in (GREY, COLOUR):
        return None
    shown = images[:MOST_IMAGES].detach().cpu().float()
    if specification is not None:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (specification.mean, specification.std))
        shown = (shown * std + mean).clamp(0, 1)
    grid = make_grid(shown, IMAGES_A_ROW, normalize=specification is None, scale_each=True)
    written = io.BytesIO()
    Image.fromarray((255 * grid).round().byte().permute(1, 2, 0).numpy()).save(written, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
