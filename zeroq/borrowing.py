"""A caller's network at a public call: what is refused, how it is copied, and how it is given back as it came."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from zeroq.errors import ZeroQError

# Classes that run another network, and the name under which they hold it. By name, since torch's compiler takes seconds
# to import.
WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "OptimizedModule": "_orig_mod"}
# Of torchvision's detectors: it normalises and resizes images, which are normalised here already.
PREPARES_IMAGES = "GeneralizedRCNNTransform"
Given = ParamSpec("Given")  # beside the network
Result = TypeVar("Result")
Network = TypeVar("Network", bound=nn.Module)
Call = Callable[Concatenate[nn.Module, Given], Result]
_within_a_call: ContextVar[bool] = ContextVar("within a public call", default=False)


def borrows(function: Call[Given, Result]) -> Call[Given, Result]:
    """Make a public function of a float network, ``model``, of one that takes any and leaves it as it came.

    Outside, networks that ``check_network`` does not know are refused, and it is said once where scores depend on the
    batch. Inside, gradients can be taken whatever the caller does: inference mode is left, and of networks and tensors
    that were made in it there is a copy. What modules keep of what flows through them is theirs again at the end
    (``as_it_came``).
    """

    run: Callable[..., Result] = function

    @wraps(function)
    def call(model: nn.Module, *arguments: Any, **named: Any) -> Result:
        check_network(model)
        if not _within_a_call.get() and (reason := _why_batches_matter(model)):
            warnings.warn(reason, stacklevel=2)
        token = _within_a_call.set(True)
        try:
            with torch.inference_mode(False), as_it_came(model):
                tensors = (*model.parameters(), *model.buffers())
                network = copied(model) if any(each.is_inference() for each in tensors) else model
                named = {name: _with_gradients(each) for name, each in named.items()}
                return run(network, *map(_with_gradients, arguments), **named)
        finally:
            _within_a_call.reset(token)

    return cast("Call[Given, Result]", call)


def check_network(model: nn.Module) -> None:
    """Raise ZeroQError unless ``model`` is modules of Python with weights, none of which only runs another.

    Nor may any prepare images, as a detector's do.
    """
    if not isinstance(model, nn.Module):
        raise ZeroQError(f"model must be a network, a torch.nn.Module, not {type(model).__name__}")
    for name, module in model.named_modules():
        place = f"model.{name}" if name else "model"
        if isinstance(module, torch.jit.ScriptModule):
            raise ZeroQError(f"{place} is TorchScript, whose layers cannot be changed; give the nn.Module it is of")
        for kind in type(module).mro():
            if kind.__name__ in WRAPPERS:
                raise ZeroQError(
                    f"{place} is wrapped in {kind.__name__}; give the network inside, {place}.{WRAPPERS[kind.__name__]}"
                )
        if type(module).__name__ == PREPARES_IMAGES:
            raise ZeroQError(
                f"{place} normalises and resizes images, and the network sees others than it is given; give the "
                f"detector's layers, zeroq.take_apart(detector).module"
            )
        if any(is_lazy(each) for each in module.parameters(recurse=False)):
            raise ZeroQError(f"{place} has no weights yet; let the network see images once")


def copied(model: Network, instead: Mapping[nn.Module, nn.Module] | None = None) -> Network:
    """A copy of a network that shares nothing with it, also of one that keeps what it computed, as ``self.features``.

    Such tensors are copied without the graph behind them, which torch's deepcopy refuses. Nothing in the copy is an
    inference tensor. Wherever a module stands in the network, the copy has the one that is to stand there ``instead``.
    """
    with torch.inference_mode(False), _WithoutGraphs():
        return copy.deepcopy(model, {id(module): other for module, other in (instead or {}).items()})


class _WithoutGraphs(TorchFunctionMode):
    """Inside, a tensor that was computed is copied as if it had not been."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.Tensor.__deepcopy__ and args[0].grad_fn is not None:
            return args[0].detach().clone()
        return function(*args, **kwargs or {})


@contextmanager
def as_it_came(model: nn.Module) -> Iterator[None]:
    """Outside, each module holds again what it held, attributes, lists and dictionaries, whatever it kept inside."""
    held = [(each, dict(each) if isinstance(each, dict) else list(each)) for each in _containers(model.modules())]
    try:
        yield
    finally:
        for container, content in held:
            container.clear()
            container.update(content) if isinstance(container, dict) else container.extend(content)


def _containers(modules: Iterable[nn.Module]) -> list[dict[Any, Any] | list[Any]]:
    """Every dictionary and list in which modules hold something, those of their attributes too, each once."""
    waiting: list[Any] = [vars(module) for module in modules]
    found: dict[int, dict[Any, Any] | list[Any] | tuple[Any, ...]] = {}
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list | tuple) and id(each) not in found:
            found[id(each)] = each
            waiting.extend(each.values() if isinstance(each, dict) else each)
    return [each for each in found.values() if not isinstance(each, tuple)]


def _why_batches_matter(model: nn.Module) -> str | None:
    """What to say of a network whose scores for an image depend on the other images of its batch."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None and module.running_var is None:
            return (
                f"layer {name!r} ({type(module).__name__}, track_running_stats=False) has recorded no statistics and "
                f"normalizes by each batch's own: scores, sensitivities and ranges depend on which images are in a "
                f"batch; train it with track_running_stats=True for ones that do not"
            )
    return None


def _with_gradients(value: Any) -> Any:
    """A copy of a tensor that was made in inference mode; anything else as it is."""
    return value.clone() if isinstance(value, torch.Tensor) and value.is_inference() else value
