"""Any classifier of timm, with the preprocessing that its checkpoint was trained for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import timm
from huggingface_hub import constants
from timm.data.config import resolve_model_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg

from zeroq.errors import ZeroQError
from zeroq.networks.checkpoint import load_checkpoint
from zeroq.networks.download import explained, reachable
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork


def load(architecture: str, checkpoint: Path | None = None, *, classes: int | None = None) -> PretrainedNetwork:
    """A timm network in evaluation mode, with timm's own weights or those of a checkpoint.

    ``classes`` is the number of outputs, where the checkpoint has another one than ImageNet's 1,000.

    Raises ZeroQError for an unknown architecture, for weights that cannot be downloaded, and for a checkpoint
    that does not fit.
    """
    published = published_weights(architecture)
    if checkpoint is not None:
        network = timm.create_model(architecture, num_classes=classes)
        load_checkpoint(network, checkpoint)
    else:
        if classes is not None:
            raise ZeroQError(f"timm has no weights for {classes} classes; give yours, checkpoint=…")
        if published is None or not published.has_weights:
            raise ZeroQError(f"timm has no weights of {architecture}; give yours, checkpoint=…")
        source = f"{constants.ENDPOINT}/{published.hf_hub_id}" if published.hf_hub_id else published.url
        mend = f"fetch them from {source} and give the file, checkpoint=…"
        with explained(architecture, mend), without_retries():
            network = timm.create_model(architecture, pretrained=True)
    data = resolve_model_data_config(network)
    specification = InputSpecification(
        shape=tuple(data["input_size"]),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        resize=resized(data),
        interpolation=data["interpolation"],
    )
    return PretrainedNetwork(network.eval(), specification)


def published_weights(architecture: str) -> PretrainedCfg | None:
    """What timm knows of an architecture's weights; raises ZeroQError for an unknown architecture or tag."""
    name = architecture.partition(".")[0]
    if not timm.is_model(name):
        close = timm.list_models(f"*{name[:8]}*")[:5]
        raise ZeroQError(f"timm has no {architecture!r}; similar names: {', '.join(close) or 'none'}")
    try:
        return get_pretrained_cfg(architecture)
    except RuntimeError as error:
        known = timm.list_pretrained(f"{name}.*")
        raise ZeroQError(f"timm has no {architecture!r}; its weights are {', '.join(known) or 'none'}") from error


def resized(data: dict[str, Any]) -> int | tuple[int, int]:
    """To what photographs are resized before the crop; raises ZeroQError for a kind of crop that is not supported."""
    height, width = (int(pixels / data["crop_pct"]) for pixels in data["input_size"][1:])
    if data["crop_mode"] == "squash":
        return height, width
    if data["crop_mode"] == "center" and height == width:
        return height
    raise ZeroQError(
        f"this network's photographs are prepared by a {data['crop_mode']!r} crop of {height} × {width} pixels, which "
        f"is not supported; quantize it from Python"
    )


@contextmanager
def without_retries() -> Iterator[None]:
    """Let huggingface_hub look into its cache alone where its host does not answer (it would retry for a minute)."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable(urlparse(constants.ENDPOINT).hostname)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
