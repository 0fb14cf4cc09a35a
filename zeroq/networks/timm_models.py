"""Any classifier of timm, with the preprocessing that its checkpoint was trained for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import timm
from huggingface_hub import constants
from timm.data import resolve_model_data_config

from zeroq.errors import ZeroQError
from zeroq.networks.checkpoint import load_checkpoint
from zeroq.networks.download import explained, reachable
from zeroq.networks.pretrained import InputSpecification, PretrainedNetwork

HOST = "huggingface.co"


def load(architecture: str, checkpoint: Path | None = None, *, classes: int | None = None) -> PretrainedNetwork:
    """A timm network in evaluation mode, with timm's own weights or those of a checkpoint.

    ``classes`` is the number of outputs, where the checkpoint has another one than ImageNet's 1,000.

    Raises ZeroQError for an unknown architecture, for weights that cannot be downloaded, and for a checkpoint
    that does not fit.
    """
    name = architecture.partition(".")[0]
    if not timm.is_model(name):
        close = timm.list_models(f"*{name[:8]}*")[:5]
        raise ZeroQError(f"timm has no {architecture!r}; similar names: {', '.join(close) or 'none'}")
    if checkpoint is None and classes is not None:
        raise ZeroQError(f"timm has no weights for {classes} classes; give yours with model.checkpoint=…")
    with explained(architecture, "give your own file with model.checkpoint=…"), without_retries():
        network = timm.create_model(architecture, pretrained=checkpoint is None, num_classes=classes)
    if checkpoint is not None:
        load_checkpoint(network, checkpoint)
    data = resolve_model_data_config(network)
    height = data["input_size"][1]
    specification = InputSpecification(
        shape=tuple(data["input_size"]),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        resize=int(height / data["crop_pct"]),
        interpolation=data["interpolation"],
    )
    return PretrainedNetwork(network.eval(), specification)


@contextmanager
def without_retries() -> Iterator[None]:
    """Let huggingface_hub look into its cache alone where its host does not answer (it would retry for a minute)."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable(HOST)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
