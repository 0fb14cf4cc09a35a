"""A network's name on the command line → the network."""

import importlib
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.images import check_input_shape
from zeroq.modules import evaluating, forward
from zeroq.networks import exported_program, zoo
from zeroq.networks.checkpoint import load_checkpoint
from zeroq.networks.pretrained import InputSpecification, check_normalisation

# By name, since these libraries take seconds to import.
LIBRARIES = {
    "timm": "zeroq.networks.timm_models",
    "torchvision": "zeroq.networks.torchvision_models",
    "pytorchcv": "zeroq.networks.pytorchcv_models",
}
BUNDLED, PROGRAM = "bundled", ".pt2"
FORMS = f"MODULE:NAME, {', '.join(f'{library}:NAME' for library in (*LIBRARIES, BUNDLED))}, or FILE{PROGRAM}"


@dataclass(frozen=True)
class NamedNetwork:
    """A network, by which name it was asked for, and its input: (channels, height, width) in pixels.

    ``input`` is how pictures are prepared for it, None where nobody has said how they are normalised.
    """

    name: str
    module: nn.Module
    shape: tuple[int, int, int]
    input: InputSpecification | None


def network_named(
    name: str,
    *,
    checkpoint: Path | None = None,
    classes: int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> NamedNetwork:
    """The network, which takes images of its shape.

    Raises ZeroQError for a name that leads to none, as the loaders of networks do, and for options that do not fit.
    """
    library, _, architecture = name.partition(":")
    if shape is not None:
        check_input_shape(shape)
    if classes is not None and (library not in LIBRARIES or checkpoint is None):
        raise ZeroQError("--classes says how many a checkpoint has, of a network of timm, torchvision or pytorchcv")
    specification = None
    if library in LIBRARIES or library == BUNDLED:
        load: Any = zoo.load if library == BUNDLED else importlib.import_module(LIBRARIES[library]).load
        words = {} if classes is None else {"classes": classes}
        pretrained = load(architecture, checkpoint, **words)
        module, specification = pretrained.module, pretrained.input
        if shape not in (None, specification.shape):
            specification = replace(specification, shape=shape, resize=None)
        shape = specification.shape
    elif name.endswith(PROGRAM):
        module, own = exported_program.load(Path(name))
        if shape not in (None, own):
            raise ZeroQError(f"{name} was exported for images of shape {own}, not {shape}; leave --shape out")
        shape = own
    else:
        if shape is None:
            raise ZeroQError("a network of yours needs the shape of its input, as in --shape 3 224 224")
        module = _own(library, architecture)
    if checkpoint is not None and not specification:
        load_checkpoint(module, checkpoint)
    _check_runs(module, shape)
    return NamedNetwork(name, module, shape, _prepared(specification, shape, mean, std))


def _own(place: str, name: str) -> nn.Module:
    """The network that a module of the user's defines, or that its function or class gives."""
    if not place or not name:
        raise ZeroQError(f"the network is {FORMS}, not {place!r}")
    if place.endswith(".py") or "/" in place:
        dotted = place.removesuffix(".py").strip("./").replace("/", ".")
        raise ZeroQError(f"a module is named as Python imports it, {dotted}:{name}, not by its file")
    try:
        with _their_code(f"{place} cannot be imported"):
            found = importlib.import_module(place)
    except ModuleNotFoundError as error:
        if f"{place}.".startswith(f"{error.name}."):
            raise ZeroQError(f"there is no module {error.name!r} here or among the installed ones; {FORMS}") from error
        raise ZeroQError(f"{place} cannot be imported: it needs {error.name}, which is not installed") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ZeroQError(f"{place} has no {name!r}; name a function or class without arguments, or a network")
        found = getattr(found, part)
    if not isinstance(found, nn.Module) and callable(found):
        with _their_code(f"{place}:{name} cannot be called without arguments"):
            found = found()
    if not isinstance(found, nn.Module):
        raise ZeroQError(f"{place}:{name} gives a {type(found).__name__}, not a network, torch.nn.Module")
    return found


@contextmanager
def _their_code(problem: str) -> Iterator[None]:
    """Around code of the user's: what it raises becomes one sentence, with its place."""
    try:
        yield
    except (ModuleNotFoundError, ZeroQError):
        raise
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ZeroQError(f"{problem}: {frame.filename}:{frame.lineno} {type(error).__name__}: {reason}") from error


def _check_runs(module: nn.Module, shape: tuple[int, int, int]) -> None:
    """Raise ZeroQError where the network does not take images of this shape."""
    with evaluating(module), torch.no_grad(), _their_code(f"the network does not run on images of shape {shape}"):
        forward(module, torch.zeros(1, *shape))


def _prepared(
    own: InputSpecification | None,
    shape: tuple[int, int, int],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> InputSpecification | None:
    """How pictures are prepared: as the library says, but for what the user says; None where nobody says it."""
    if (mean is None) != (std is None):
        raise ZeroQError("--mean and --std are one normalisation; give both, or leave both out")
    if mean is None or std is None:
        return own
    check_normalisation("--mean", mean, shape[0], positive=False)
    check_normalisation("--std", std, shape[0], positive=True)
    return replace(own or imagenet_input(shape), mean=tuple(mean), std=tuple(std))


def imagenet_input(shape: tuple[int, int, int]) -> InputSpecification:
    """ImageNet's usual preparation, for images of this shape."""
    from zeroq.networks.pytorchcv_models import input_specification

    return replace(input_specification(shape[1:]), shape=shape)
