"""How a network's Python code becomes a graph: with sizes that are symbols, or with the sizes of an example."""

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from zeroq.layers import WEIGHTED_LAYERS
from zeroq.modules import holds_statistics, model_device, model_dtype

# What makes tensors from sizes alone; of symbols, torch's own would see no numbers.
FACTORIES = ("arange", "empty", "eye", "full", "linspace", "ones", "zeros")
# Of the example's batch, which the graph leaves open: no size that code treats as a special case.
BATCH = 3
UNKNOWN = object()


class Leaf:
    """Mixed into modules that are nodes of a graph as they are: what they do inside is not traced."""


class Tracer(fx.Tracer):
    """Torch's own tracer, which also sees statements that change a tensor in place (``x += y``).

    ``within`` are the modules that are being traced, for messages.
    """

    def __init__(self):
        super().__init__()
        self.record_stack_traces = True
        self.within: list[str] = []

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        kinds = (*WEIGHTED_LAYERS, Leaf)
        return isinstance(module, kinds) or holds_statistics(module) or super().is_leaf_module(module, name)

    def call_module(self, module: nn.Module, call: Callable, arguments: tuple, named: dict) -> Any:
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

    Beside each proxy it computes a tensor without values (torch's FakeTensor). What code asks of it that does not
    depend on the batch is a number, and may be counted to, asserted and compared.
    """

    def __init__(self, input_shape: tuple[int, int, int]):
        super().__init__()
        self.input_shape = input_shape
        self._mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        self._computing = False

    def trace(self, root: nn.Module, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        example = torch.empty(BATCH, *self.input_shape, device=model_device(root), dtype=model_dtype(root))
        sizes = [DimDynamic.DYNAMIC, *[DimDynamic.STATIC] * len(self.input_shape)]
        context = StatelessSymbolicContext(dynamic_sizes=sizes)
        self._images = self._mode.from_tensor(example, symbolic_context=context)
        with self._factories():
            return super().trace(root, concrete_args)

    def proxy(self, node: fx.Node) -> "ShapeProxy":
        return ShapeProxy(node, self)

    def create_proxy(self, kind: str, target: Any, args: tuple, kwargs: dict, *rest: Any, **named: Any) -> Any:
        """A proxy, or where what it stands for is a number or a type, that itself."""
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        proxy.value = self._value(kind, target, args, kwargs)
        if isinstance(proxy.value, torch.Size):
            sizes = tuple(self._size(proxy, index) for index in range(len(proxy.value)))
            if not proxy.node.users:
                self.graph.erase_node(proxy.node)
            return sizes
        if isinstance(proxy.value, bool | int | float | str | torch.dtype):
            self.graph.erase_node(proxy.node)
            return proxy.value
        return proxy

    def _size(self, proxy: "ShapeProxy", index: int) -> Any:
        """One of several sizes: the number, or where it depends on the batch, its proxy."""
        size = proxy.value[index]
        return (
            size if isinstance(size, int) else self.create_proxy("call_function", operator.getitem, (proxy, index), {})
        )

    def call_module(self, module: nn.Module, call: Callable, arguments: tuple, named: dict) -> Any:
        if self._computing:
            return call(*arguments, **named)
        return super().call_module(module, call, arguments, named)

    def getattr(self, name: str, value: Any, known: dict) -> Any:
        return value if self._computing else super().getattr(name, value, known)

    def to_bool(self, proxy: "ShapeProxy") -> bool:
        if isinstance(proxy.value, torch.SymBool) and proxy.value.node.maybe_as_bool() is not None:
            return proxy.value.node.maybe_as_bool()
        return super().to_bool(proxy)

    def iter(self, proxy: "ShapeProxy") -> Iterator:
        value = proxy.value
        if isinstance(value, tuple | list) or (isinstance(value, torch.Tensor) and isinstance(value.shape[0], int)):
            return iter([proxy[index] for index in range(len(value))])
        return super().iter(proxy)

    def _value(self, kind: str, target: Any, args: tuple, kwargs: dict) -> Any:
        """What a node gives, tensors without values; ``UNKNOWN`` where that depends on values."""
        if kind == "placeholder":
            return UNKNOWN if args else self._images
        if kind == "get_attr":
            return operator.attrgetter(target)(self.root)
        found: list[Any] = []
        inputs, named = fx.node.map_aggregate((args, kwargs), lambda each: _value_of(each, found))
        if any(each is UNKNOWN for each in found):
            return UNKNOWN
        if kind == "call_module":
            target = self.root.get_submodule(target)
        elif kind == "call_method":
            target, inputs = getattr(inputs[0], target), inputs[1:]
        elif kind == "output":
            return UNKNOWN
        before, self._computing = self._computing, True
        try:
            with self._mode, torch.no_grad():
                return target(*inputs, **named)
        except Exception:  # whatever needs values
            return UNKNOWN
        finally:
            self._computing = before

    @contextmanager
    def _factories(self) -> Iterator[None]:
        """Inside, torch's factories take sizes that are proxies."""

        def factory(original: Callable) -> Callable:
            def make(*args: Any, **kwargs: Any) -> Any:
                found: list[Any] = []
                fx.node.map_aggregate((args, kwargs), lambda each: _value_of(each, found))
                if found and not self._computing:
                    return self.create_proxy("call_function", original, args, kwargs)
                return original(*args, **kwargs)

            return make

        with ExitStack() as stack:
            for name in FACTORIES:
                stack.enter_context(mock.patch.object(torch, name, factory(getattr(torch, name))))
            yield


class ShapeProxy(Proxy):
    """A proxy with the ``value`` that it stands for."""

    value: Any = UNKNOWN

    def __getattr__(self, name: str) -> Any:
        if isinstance(self.value, torch.Tensor):
            if name == "shape":
                return self.size()
            if name in ("ndim", "dtype"):
                return getattr(self.value, name)
        return super().__getattr__(name)

    def __len__(self) -> int:
        if isinstance(self.value, tuple | list):
            return len(self.value)
        if isinstance(self.value, torch.Tensor) and isinstance(self.value.shape[0], int):
            return self.value.shape[0]
        return super().__len__()


def _value_of(each: Any, found: list[Any]) -> Any:
    """What an argument stands for; proxies' values are added to those found."""
    if isinstance(each, fx.Proxy):
        found.append(getattr(each, "value", UNKNOWN))
        return found[-1]
    return each
