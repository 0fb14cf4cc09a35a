"""How a network's Python code becomes a graph: with sizes that are symbols, or with the sizes of an example."""

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from unittest import mock

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from zeroq.layers import WEIGHTED_LAYERS
from zeroq.modules import holds_statistics, model_device, model_dtype

# What makes tensors from sizes alone; of symbols, torch's own would see no numbers.
FACTORIES = ("arange", "empty", "eye", "full", "linspace", "ones", "zeros")
# Sizes that differ between batches of so many images depend on the batch, which the graph leaves open.
BATCHES = (2, 61)
UNKNOWN = object()


class Leaf:
    """Mixed into modules that are nodes of a graph as they are: what they do inside is not traced."""


class Tracer(fx.Tracer):
    """Torch's own tracer, which also sees statements that change a tensor in place (``x += y``).

    ``within`` are the modules that are being traced, for messages.
    """

    submodule_paths: dict[nn.Module, str]

    def __init__(self) -> None:
        super().__init__()
        self.record_stack_traces = True
        self.within: list[str] = []

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        kinds = (*WEIGHTED_LAYERS, Leaf)
        return isinstance(module, kinds) or holds_statistics(module) or super().is_leaf_module(module, name)

    def path_of_module(self, module: nn.Module) -> str:
        """A module's name; one that code makes as it runs, as ``nn.Softmax(1)(x)`` or ``layers[:3](x)``, gets one."""
        if module not in self.submodule_paths:
            name = f"made_{len(self.submodule_paths)}"
            self.root.add_module(name, module.eval())
            self.submodule_paths[module] = name
        return self.submodule_paths[module]

    def call_module(
        self, module: nn.Module, call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        self.within.append(f"{type(module).__name__} {self.path_of_module(module)!r}")
        output = super().call_module(module, call, arguments, named)
        self.within.pop()  # not after an exception
        return output

    def proxy(self, node: fx.Node) -> "Proxy":
        return Proxy(node, self)


class Proxy(fx.Proxy):
    """Torch's own, which takes ``x += y`` for ``x = x + y``: who else sees ``x`` would not see it change."""

    def __iadd__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class ShapeTracer(Tracer):
    """A tracer that knows the shape of every tensor for images of one shape, in batches of any size.

    Beside each proxy it computes tensors without values (torch's FakeTensor), of two batches. What code asks of them
    that is the same for both is a number, and may be counted to, asserted and compared.
    """

    def __init__(self, input_shape: tuple[int, int, int]):
        super().__init__()
        self.input_shape = input_shape
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._computing = False

    def trace(self, root: nn.Module, concrete_args: dict[str, Any] | None = None) -> fx.Graph:  # type: ignore[override]  # of modules alone
        where: dict[str, Any] = {"device": model_device(root), "dtype": model_dtype(root)}
        with self._mode:
            self._images = tuple(torch.empty(count, *self.input_shape, **where) for count in BATCHES)
        with self._factories():
            return super().trace(root, concrete_args)

    def proxy(self, node: fx.Node) -> "ShapeProxy":
        return ShapeProxy(node, self)

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *rest: Any, **named: Any
    ) -> Any:
        """A proxy, or where what it stands for is a number or a type, that itself."""
        proxy = cast(ShapeProxy, super().create_proxy(kind, target, args, kwargs, *rest, **named))
        proxy.values = self._values(kind, target, args, kwargs)
        if proxy.values is UNKNOWN:
            return proxy
        one, other = proxy.values
        if isinstance(one, torch.Size):
            sizes = tuple(self._size(proxy, index) for index in range(len(one)))
            if not proxy.node.users:
                self.graph.erase_node(proxy.node)
            return sizes
        if isinstance(one, bool | int | float | str | torch.dtype) and one == other:
            self.graph.erase_node(proxy.node)
            return one
        return proxy

    def _size(self, proxy: "ShapeProxy", index: int) -> Any:
        """One of several sizes: the number, or where it depends on the batch, its proxy."""
        one, other = (sizes[index] for sizes in proxy.values)
        return one if one == other else self.create_proxy("call_function", operator.getitem, (proxy, index), {})

    def call_module(
        self, module: nn.Module, call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        if self._computing:
            return call(*arguments, **named)
        return super().call_module(module, call, arguments, named)

    def getattr(self, name: str, value: Any, known: dict[str, Any]) -> Any:
        return value if self._computing else super().getattr(name, value, known)

    def iter(self, proxy: Any) -> Iterator[Any]:
        count = proxy.count
        return super().iter(proxy) if count is None else iter([proxy[index] for index in range(count)])

    def _values(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a node gives for each batch, tensors without values; ``UNKNOWN`` where that depends on values."""
        if kind == "placeholder":
            return UNKNOWN if args else self._images
        if kind == "output" or any(each is UNKNOWN for each in _known(args, kwargs)):
            return UNKNOWN
        self._computing = True
        try:
            with self._mode, torch.no_grad():
                return tuple(
                    self._value(kind, target, *_of_batch(args, kwargs, batch)) for batch in range(len(BATCHES))
                )
        except Exception:  # whatever needs values
            return UNKNOWN
        finally:
            self._computing = False

    def _value(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kind == "get_attr":
            return operator.attrgetter(target)(self.root)
        if kind == "call_module":
            return self.root.get_submodule(target)(*args, **kwargs)
        if kind == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)

    @contextmanager
    def _factories(self) -> Iterator[None]:
        """Inside, torch's factories take sizes that are proxies."""

        def factory(original: Callable[..., Any]) -> Callable[..., Any]:
            def make(*args: Any, **kwargs: Any) -> Any:
                if not self._computing and _known(args, kwargs):
                    return self.create_proxy("call_function", original, args, kwargs)
                return original(*args, **kwargs)

            return make

        with ExitStack() as stack:
            for name in FACTORIES:
                stack.enter_context(mock.patch.object(torch, name, factory(getattr(torch, name))))
            yield


class ShapeProxy(Proxy):
    """A proxy with the ``values`` that it stands for, one for each batch."""

    values: Any = UNKNOWN

    @property
    def count(self) -> int | None:
        """Of how many parts it consists, where that is known."""
        if self.values is UNKNOWN:
            return None
        several = all(
            isinstance(each, tuple | list) or (isinstance(each, torch.Tensor) and each.dim()) for each in self.values
        )
        counts = {len(each) for each in self.values} if several else set()
        return counts.pop() if len(counts) == 1 else None

    def __getattr__(self, name: str) -> Any:
        if self.values is not UNKNOWN and isinstance(self.values[0], torch.Tensor):
            if name == "shape":
                return self.size()
            if name in ("ndim", "dtype"):
                return getattr(self.values[0], name)
        return super().__getattr__(name)

    def __len__(self) -> int:
        return super().__len__() if self.count is None else self.count


def _known(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The values of the proxies in arguments; torch's own proxies, as of attributes, have none."""

    def value_of(each: Any) -> None:
        if isinstance(each, fx.Proxy):
            found.append(each.values if isinstance(each, ShapeProxy) else UNKNOWN)

    found: list[Any] = []
    fx.node.map_aggregate((args, kwargs), value_of)
    return found


def _of_batch(args: tuple[Any, ...], kwargs: dict[str, Any], batch: int) -> Any:
    """Both kinds of arguments with what their proxies stand for in one of the batches."""
    return fx.node.map_aggregate(
        (args, kwargs), lambda each: each.values[batch] if isinstance(each, fx.Proxy) else each
    )
