"""What each layer takes in onnxruntime on this machine, in integers and in float, from profiles of exported files."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean

import pandas
import torch
from torch import nn

from zeroq.borrowing import borrows
from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra
from zeroq.export.onnx_file import export_onnx
from zeroq.export.runtime import profile
from zeroq.images import check_images
from zeroq.layers import weighted_layers
from zeroq.quantization.affine import FLOAT_BITS, LARGEST_BITS
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import Placement, convert
from zeroq.quantization.permanent_weights import with_permanent_weights

with imported_from_extra():
    import onnx

WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# What makes a layer's output what the next one takes, one value at a time.
BEHIND = ("BatchNormalization", "Clip", "Relu", "QuantizeLinear")
# Of the times that a kernel took, the slowest are the operating system's.
COUNTED = 0.75
WEIGHT = re.compile(r"(.+?)(?:_\d+bit_\d+)?\.weight(?:_integers)?")
# What onnxruntime adds to a node's name, or to that of its output, when it rewrites the graph.
ADDED = re.compile(r"(_nchwc|_nhwc|_token_\d+)+$")
LAYOUT = ("ReorderInput", "ReorderOutput", "Transpose")


@borrows
def layer_times(
    model: nn.Module,
    images: torch.Tensor,
    *,
    placement: Placement = "layer_inputs",
    per_channel: bool = True,
    symmetric: bool | None = None,
    threads: int | None = None,
    repetitions: int = 50,
) -> pandas.DataFrame:
    """Milliseconds of each Conv and Linear layer for one image, layer × (8, 32).

    Two files are exported and profiled, with weights of 8 bits and with float ones; activations have 8 bits in both.
    onnxruntime has integer kernels of 8 bits only: narrower weights take the time of 8. A layer's time holds its
    kernel, all calls, and what its kernel asks for: floats of its input or its weights, integers of its output, another
    layout. Pools and sums are no layer's, so that the network takes longer than the sum.

    Args:
        model: a float network that can be exported; left as it came.
        images: float [N, C, H, W], normalised; the first is what is timed, and ranges are those on all.
        placement, per_channel, symmetric: as in ``quantize``, since kernels depend on them.
        threads: how many onnxruntime uses, None for as many as PyTorch.
        repetitions: runs of each file; a layer's time is the mean over the faster three quarters.

    Returns:
        Rows of 0 for layers that the images do not reach.

    Raises:
        ZeroQError: images or repetitions out of range, a network that cannot be exported, a profile that does not name
            every layer.
    """
    check_images(images)
    if not isinstance(repetitions, int) or repetitions < 1:
        raise ZeroQError(f"repetitions must be a whole number from 1 on, not {repetitions}")
    model = with_permanent_weights(model)
    names = list(weighted_layers(model))
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for bits in (LARGEST_BITS, FLOAT_BITS):
            how = {"per_channel": per_channel, "symmetric": symmetric, "input_shape": tuple(images.shape[1:])}
            quantized = convert(model, bits, LARGEST_BITS, placement, **how)
            calibrate(quantized, images)
            path = export_onnx(quantized, Path(folder) / f"{bits}.onnx", images[:1]).path
            words = owners_of_words(onnx.load(path).graph, names)
            graph, kernels = profile(path, images[:1], threads=threads, repetitions=repetitions)
            times[bits] = times_of_layers(kernels, owners_of_kernels(graph, words), names, repetitions)
    return pandas.DataFrame(times, index=pandas.Index(names, name="layer"))


def times_of_layers(
    kernels: Iterable[tuple[str, float]], owners: dict[str, str], names: list[str], repetitions: int
) -> dict[str, float]:
    """Milliseconds of each layer from a profile's (kernel, milliseconds) and each kernel's layer."""
    taken: dict[str, list[float]] = defaultdict(list)
    for kernel, milliseconds in kernels:
        if kernel in owners:
            taken[kernel].append(milliseconds)
    totals = dict.fromkeys(names, 0.0)
    for kernel, found in taken.items():
        # A kernel of the same name may run several times in each repetition.
        counted = sorted(found)[: max(1, round(COUNTED * len(found)))]
        totals[owners[kernel]] += fmean(counted) * len(found) / repetitions
    return totals


def owners_of_kernels(graph: onnx.GraphProto, words: dict[str, str]) -> dict[str, str]:
    """The layer of each node of the graph that onnxruntime runs, by the node's name; not all are of a layer.

    ``words`` as from ``owners_of_words``. Raises ZeroQError where a layer that has words has no node.
    """
    found = {node.name: words.get(ADDED.sub("", node.name)) for node in graph.node}
    producers, consumers = neighbours(graph)
    for node in graph.node:
        if found[node.name] is None and node.op_type in LAYOUT:
            beside = [producers.get(node.input[0]), *consumers[node.output[0]]]
            found[node.name] = next((found[each.name] for each in beside if each and found[each.name]), None)
    owners = {name: layer for name, layer in found.items() if layer is not None}
    if missing := set(words.values()) - set(owners.values()):
        raise ZeroQError(f"onnxruntime's profile does not name what it makes of layer {min(missing)!r}")
    return owners


def neighbours(graph: onnx.GraphProto) -> tuple[dict[str, onnx.NodeProto], dict[str, list[onnx.NodeProto]]]:
    """By value, the node that gives it, and those that take it."""
    producers, consumers = {}, defaultdict(list)
    for node in graph.node:
        producers.update((value, node) for value in node.output)
        for value in node.input:
            consumers[value].append(node)
    return producers, consumers


def owners_of_words(graph: onnx.GraphProto, names: list[str]) -> dict[str, str]:
    """The layer behind each word that onnxruntime may name its kernel by: a node's own name, or what the node gives."""
    producers, consumers = neighbours(graph)
    layers, owners = set(names), {}
    for node in graph.node:
        if node.op_type not in WITH_WEIGHTS:
            continue
        weights = [found for value in node.input[1:] for found in _constants(value, producers)]
        matches = (WEIGHT.fullmatch(value) for value, _ in weights)
        layer = next((match[1] for match in matches if match and match[1] in layers), None)
        if layer is None:
            continue
        given = producers.get(node.input[0])
        before = [given] if given is not None and given.op_type == "DequantizeLinear" else []
        before += [made for _, nodes in weights for made in nodes]
        for each in (node, *_behind(node, consumers), *before):
            for word in (each.name, *each.output):
                owners.setdefault(word, layer)  # one kernel may make the input of several layers: the first one's
    return owners


def _constants(value: str, producers: dict[str, onnx.NodeProto]) -> Iterator[tuple[str, list[onnx.NodeProto]]]:
    """Each constant that a value is made of alone, with the nodes that make it."""
    nodes: list[onnx.NodeProto] = []
    while value in producers:
        nodes.append(producers[value])
        value = producers[value].input[0] if producers[value].input else ""
    yield value, nodes


def _behind(node: onnx.NodeProto, consumers: dict[str, list[onnx.NodeProto]]) -> Iterator[onnx.NodeProto]:
    """What follows a layer alone, up to where its output is quantized."""
    while len(users := consumers[node.output[0]]) == 1 and users[0].op_type in BEHIND:
        node = users[0]
        yield node
        if node.op_type == "QuantizeLinear":
            return
