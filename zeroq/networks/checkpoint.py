"""Weights from a file, in the formats that people keep them in."""

import struct
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from zeroq.errors import ZeroQError

# Training programs wrap the weights with epoch and optimiser; an averaged copy is the one that is scored.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "network")
# Added in front of every name by DataParallel and torch.compile.
PREFIXES = ("module.", "_orig_mod.")
# torch's AveragedModel counts its updates beside the weights.
AVERAGED = "n_averaged"
NAMES_SHOWN = 5
# What torch raises depends on the byte at which a file that is none of its own stops to look like one.
READ_ERRORS = (
    *(SafetensorError, UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, AssertionError),
    struct.error,
)


def load_checkpoint(network: nn.Module, path: Path, *, ignore_more: bool = False) -> None:
    """Load a network's weights from a file; with ``ignore_more`` it may hold others beside them.

    Raises ZeroQError for a missing or unreadable file, and for one whose names or shapes are not the network's.
    """
    found, wanted = read_state_dict(path), network.state_dict()
    # Old checkpoints and torchvision's frozen BatchNorm have no batch counters, which inference never reads.
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = sorted(wanted.keys() - found.keys() - counters)
    unexpected = sorted(name for name in found.keys() - wanted.keys() if not name.endswith("num_batches_tracked"))
    if ignore_more:
        unexpected = []
    common = wanted.keys() & found.keys()
    shapes = sorted(name for name in common if wanted[name].shape != found[name].shape)
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(problems.values()):
        raise ZeroQError(
            f"{path} does not fit {type(network).__name__}: "
            + "; ".join(f"{len(names)} {what} ({_some(names)})" for what, names in problems.items() if names)
        )
    network.load_state_dict({name: found[name] for name in common}, strict=False)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file or of ``torch.save``, without wrappers and prefixes.

    Only tensors and plain containers are unpickled, never code. Raises ZeroQError for a file that cannot be read.
    """
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ZeroQError(f"{path} cannot be read: {error.strerror or error}") from error
    except READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ZeroQError(
            f"{path} is no checkpoint that can be read safely ({reason}); save the weights alone, "
            f"torch.save(network.state_dict(), path)"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    tensors = isinstance(content, dict) and {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if tensors:
        tensors.pop(AVERAGED, None)
    if not tensors:
        raise ZeroQError(f"{path} holds no weights: neither a state dict, nor one under {', '.join(WRAPPERS)}")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _some(names: list[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (" …" if len(names) > NAMES_SHOWN else "")
