"""The figures of each network, as pictures that stand in the page itself."""

import base64
import io
from itertools import groupby
from pathlib import Path

from PIL import Image

# Figures are drawn for print, at 300 dots an inch: half of that is sharp on a screen.
SHRUNK = 2
QUALITY = 45
# Pictures that many times as wide as high get a row of their own.
WIDE = 3


def network_figures(folder: Path, networks: list[str]) -> list[dict]:
    """The figures of each network that has some; ``networks`` are the names that files begin with, with / for -."""

    def network_of(path: Path) -> str:
        fitting = [name for name in networks if path.stem.startswith(f"{name.replace('/', '-')}-")]
        return max(fitting, key=len, default="")

    paths = sorted(folder.glob("*.png"), key=lambda path: (network_of(path), path.name))
    return [
        {"name": network, "figures": sorted((figure_content(path, network) for path in group), key=figure_order)}
        for network, group in groupby(paths, network_of)
        if network
    ]


def figure_order(figure: dict) -> tuple:
    """What takes the page's whole width first, then what is of default settings."""
    return not figure["wide"], len(figure["name"].split()), figure["name"]


def figure_content(path: Path, network: str) -> dict:
    """A figure as an AVIF in a data URL, with its size and what it is called beside others of its network."""
    with Image.open(path) as image:
        width, height = (side // SHRUNK for side in image.size)
        shrunk = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    shrunk.save(written, "AVIF", quality=QUALITY, speed=8)
    name = path.stem.removeprefix(f"{network.replace('/', '-')}-").replace("-", " ")
    data = base64.b64encode(written.getvalue()).decode()
    url, wide = f"data:image/avif;base64,{data}", width > WIDE * height
    return {"name": name, "url": url, "width": width, "height": height, "wide": wide}
