"""A network saved by ``torch.export``, with Conv, Linear and BatchNorm layers as modules again.

A program holds operators and tensors, no layers; their names are those that the weights had.
"""

import contextlib
import io
import logging
import operator
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

from zeroq.errors import ZeroQError
from zeroq.modules import forward

ATEN = torch.ops.aten
# Their functions in torch.nn.functional have other arguments than the operators.
OTHER_ARGUMENTS = ("softmax", "log_softmax")
# Arguments of operators that no function takes.
INNER = ("cudnn_enabled",)
NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
SAME = 1e-4  # of the largest output


def load(path: Path) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network of a file that ``torch.export.save`` wrote, and its input's shape (channels, height, width).

    Such a file may hold code: open only what you would run. Raises ZeroQError for a file that is none, and for a
    program that takes something else than one batch of images, was exported in training mode, without layers, or for
    batches of one size alone.
    """
    program = read(path)
    images = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    shape = tuple(getattr(images[0].meta.get("val"), "shape", ())) if len(images) == 1 else ()
    if len(shape) != 4 or not all(isinstance(side, int) for side in shape[1:]):
        raise ZeroQError(f"{path} takes other inputs than one batch of images of one size; export the network of those")
    network = with_layers(program, path)
    check_same(network, program, shape, path)
    return network, shape[1:]


def read(path: Path) -> torch.export.ExportedProgram:
    """The program; raises ZeroQError for a file that holds none."""
    if not path.is_file():
        raise ZeroQError(f"there is no file {path}; save a program there, torch.export.save(program, path)")
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)  # else it shows where it stops, before it tries an older format
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except Exception as error:  # of whatever a damaged or older file lacks
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ZeroQError(f"{path} is no program of torch.export that this PyTorch reads ({reason})") from error
    finally:
        logger.setLevel(level)


def with_layers(program: torch.export.ExportedProgram, path: Path) -> fx.GraphModule:
    """The program's graph, which calls modules and functions where it called operators."""
    source = program.module()
    graph, held = source.graph, {}
    for node in list(graph.nodes):
        if node.op == "call_module" or (node.op == "call_function" and "assert" in node.name):
            graph.erase_node(node)  # checks of the input's shape
        elif node.op == "get_attr":
            held[node.target] = operator.attrgetter(node.target)(source)
        elif isinstance(node.target, torch._ops.OpOverload):
            _respell(node, held, path)
    graph.set_codegen(fx.graph.CodeGen())
    (output,) = (node for node in graph.nodes if node.op == "output")
    output.args = (pytree.tree_unflatten(output.args[0], program.call_spec.out_spec),)
    for node in list(graph.find_nodes(op="get_attr")):
        if not node.users:
            graph.erase_node(node)
    wanted = {node.target for node in graph.nodes if node.op in ("get_attr", "call_module")}
    network = fx.GraphModule({name: value for name, value in held.items() if name in wanted}, graph)
    if not any(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules()):
        raise ZeroQError(f"{path} holds no Conv or Linear layer; save what torch.export.export gives, not decomposed")
    return network.eval()


def _respell(node: fx.Node, held: dict[str, Any], path: Path) -> None:
    """Let a node call what an eager network calls; ``held`` has the tensors by name, and receives the modules."""
    target = node.target
    assert isinstance(target, torch._ops.OpOverload)  # as every call of such a program
    schema = target._schema.arguments
    given = {each.name: each.default_value for each in schema}
    given |= dict(zip(given, node.args, strict=False)) | node.kwargs
    if given.get("training") is True or given.get("train") is True:
        raise ZeroQError(f"{path} was exported in training mode; export it again after model.eval()")
    make = MODULES.get(target)
    tensors = {name: each for name, each in given.items() if isinstance(each, fx.Node) and name != "input"}
    if make is not None and all(each.op == "get_attr" for each in tensors.values()):
        values = given | {name: held[str(each.target)] for name, each in tensors.items()}
        rest = {key: value for key, value in given.items() if key != "input"}
        features = given["input"]
        assert isinstance(features, fx.Node)
        module = make(values, features.meta["val"].dim())
        first = str(next(iter(tensors.values())).target)
        node.op, node.target = "call_module", _named(held, first, module, repr(rest))
        node.args, node.kwargs = (features,), {}
        return
    name = target._schema.name.partition("::")[2]
    plain = name.rstrip("_")
    kept = [value for each, value in zip(schema, node.args, strict=False) if each.name not in INNER]
    if name == "sym_size":
        node.op, node.target = "call_method", "size"
    elif name != plain and hasattr(torch.Tensor, name):
        node.op, node.target = "call_method", name
    elif hasattr(functional, plain) and plain not in OTHER_ARGUMENTS:
        node.target, node.args = getattr(functional, plain), tuple(kept)
        if name != plain:
            node.kwargs = node.kwargs | {"inplace": True}
    elif hasattr(torch, name):
        node.target = getattr(torch, name)
    elif hasattr(torch.Tensor, name):
        node.op, node.target = "call_method", name


def _named(held: dict[str, Any], tensor: str, module: nn.Module, settings: str) -> str:
    """The module's name: that of the layer which the first of its tensors was of; a module called twice is one."""
    owner, _, kind = tensor.rpartition(".")
    name = owner if owner and kind in ("weight", "running_mean") else tensor.replace(".", "_")
    vars(module)["settings"] = settings
    number, free = 1, name
    while (known := held.get(free)) is not None:
        if getattr(known, "settings", None) == settings:
            return free
        number += 1
        free = f"{name}_{number}"
    held[free] = module
    return free


def _convolution(kind: type[nn.Module]) -> Callable[[dict[str, Any], int], nn.Module]:
    transposed = issubclass(kind, nn.modules.conv._ConvTransposeNd)

    def make(given: dict[str, Any], dimensions: int) -> nn.Module:
        weight, groups = given["weight"], given["groups"]
        channels = (
            (weight.shape[0], weight.shape[1] * groups) if transposed else (weight.shape[1] * groups, len(weight))
        )
        names = ("stride", "padding", "dilation", *(("output_padding",) if transposed else ()))
        sides = weight.dim() - 2
        how = {name: _sides(given[name], sides) for name in names}
        with torch.device("meta"):
            layer = kind(*channels, tuple(weight.shape[2:]), groups=groups, bias=given["bias"] is not None, **how)
        layer.weight, layer.bias = weight, given["bias"]
        return layer

    return make


def _sides(value: Any, sides: int) -> Any:
    """One number for each side; ``padding`` may also be a word."""
    if isinstance(value, int):
        value = (value,)
    return value if isinstance(value, str) else tuple(value) * (sides if len(value) == 1 else 1)


def _linear(given: dict[str, Any], dimensions: int) -> nn.Module:
    outputs, inputs = given["weight"].shape
    with torch.device("meta"):
        layer = nn.Linear(inputs, outputs, bias=given["bias"] is not None)
    layer.weight, layer.bias = given["weight"], given["bias"]
    return layer


def _batch_norm(given: dict[str, Any], dimensions: int) -> nn.Module:
    with torch.device("meta"):
        layer = NORMS[dimensions](len(given["running_mean"]), eps=given["eps"], affine=given["weight"] is not None)
    layer.weight, layer.bias = given["weight"], given["bias"]
    layer.running_mean, layer.running_var = given["running_mean"], given["running_var"]
    layer.num_batches_tracked = torch.tensor(0)
    return layer


MODULES = {
    ATEN.conv1d.default: _convolution(nn.Conv1d),
    ATEN.conv2d.default: _convolution(nn.Conv2d),
    ATEN.conv2d.padding: _convolution(nn.Conv2d),
    ATEN.conv3d.default: _convolution(nn.Conv3d),
    ATEN.conv_transpose2d.input: _convolution(nn.ConvTranspose2d),
    ATEN.linear.default: _linear,
    ATEN.batch_norm.default: _batch_norm,
}


def check_same(network: nn.Module, program: torch.export.ExportedProgram, shape: tuple[Any, ...], path: Path) -> None:
    """Raise ZeroQError where the network computes something else than its program, or takes one size of batch alone."""
    count = shape[0] if isinstance(shape[0], int) else 2
    images = torch.randn(count, *shape[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = pytree.tree_leaves(program.module()(images))
        found = pytree.tree_leaves(network(images))
        for one, other in zip(expected, found, strict=True):
            if not torch.allclose(one, other, rtol=0, atol=SAME * one.abs().max().item()):
                raise ZeroQError(f"{path} computes something else with its layers as modules; give the eager network")
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # a graph prints where it stops
                more = forward(network, images[:1].repeat(count + 1, 1, 1, 1))
            sizes = {len(each) for each in pytree.tree_leaves(more)}
        except ZeroQError:
            sizes = set()
    if sizes != {count + 1}:
        raise ZeroQError(
            f"{path} was exported for batches of {count} alone; export it with "
            f'dynamic_shapes=({{0: torch.export.Dim("batch")}},)'
        )
