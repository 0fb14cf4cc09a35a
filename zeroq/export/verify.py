"""Whether a file computes in onnxruntime what was simulated, and where it begins to differ."""

import re
import tempfile
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import cast

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra
from zeroq.export.integer_arithmetic import integer_arithmetic
from zeroq.export.lowering import StoredQuantizer, explicit, lowered, quantizer_of
from zeroq.export.runtime import OnnxNetwork, run, session
from zeroq.graph.placement import HOLDER
from zeroq.images import gaussian_images, shape_of
from zeroq.modules import forward, model_device

with imported_from_extra():
    import onnx

# Of the largest output: what sums of floats in another order come to.
SAME = 1e-4
# Of a grid's step: one rounding that falls to the other side, and no more.
ONE_STEP = 1.01
QUANTIZED = re.compile(r"quantize_dequantize(?:_(\d+))?")


@dataclass(frozen=True)
class Difference:
    """The first tensor on a grid that a file computes otherwise: behind what node, and by how many steps at most."""

    node: str
    steps: float


def verify(path: Path, quantized: nn.Module, example: torch.Tensor) -> Difference | None:
    """Run a file on the first image of the example, and on three of Gaussian noise, beside what it is to compute.

    That is ``integer_arithmetic`` of a network with placement ``integer``, and else the simulation with BatchNorm
    folded. Sums that end in the middle between two steps of a grid may fall to either side, as floats are added in
    another order; what follows differs then, and the first tensor that does is returned. ``None``: outputs are the
    same.

    Raises ZeroQError where onnxruntime does not run the file, and where outputs differ for any other reason.
    """
    shape = shape_of(example)
    integer = HOLDER in dict(quantized.named_children())
    reference = integer_arithmetic(quantized, shape) if integer else lowered(explicit(quantized, shape))[0]
    network, first = OnnxNetwork(path), None
    for images in (example[:1].cpu().float(), gaussian_images(shape, 3)):
        with torch.no_grad():
            expected = forward(reference, images)
            difference = _outputs_apart(network(images), expected)
            if difference <= SAME:
                continue
            found = first_difference(path, reference, images)
        if found is None or found.steps > ONE_STEP:
            where = "in what gives the outputs" if found is None else f"at {found.node}, by {found.steps:.0f} steps"
            raise ZeroQError(
                f"the file would not compute what was simulated: outputs differ by {difference:.2g} of the largest, "
                f"first {where}; nothing is written"
            )
        first = first or found
    return first


def _outputs_apart(found: object, expected: object) -> float:
    """The largest difference of outputs, as a share of the largest of each tensor."""
    apart = [0.0]
    for one, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        if other.numel():
            wanted = other.cpu().double()
            apart.append(((one.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30)).item())
    return float("inf") if any(isnan(each) for each in apart) else max(apart)


def first_difference(path: Path, reference: fx.GraphModule, images: torch.Tensor) -> Difference | None:
    """The first tensor on a grid, in order of execution, that a file computes otherwise; ``None`` where there is none.

    ``reference`` is a ``lowered`` graph, whose quantizers are the file's.
    """
    expected = _Recorder(reference)
    expected.run(images.to(model_device(reference)))
    model = onnx.load(path)
    given = {value for node in model.graph.node for value in node.output}
    names = sorted(filter(QUANTIZED.fullmatch, given), key=_number)
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, shown := Path(folder) / "all.onnx")
        found = dict(zip(names, run(session(shown), images)[-len(names) :], strict=True))
    for name in names:
        # By its number: of quantizers that compute the same of the same tensor, the file has one.
        node, scale, values = expected.grids[_number(name)]
        if found[name].shape != values.shape:
            raise ZeroQError(f"the file's {name} is another tensor than the one behind {node}; nothing is written")
        steps = ((torch.from_numpy(found[name]) - values).abs().max() / scale).item()
        if not steps < 0.5:
            return Difference(node, steps)
    return None


def _number(name: str) -> int:
    """Which of a graph's quantizers, in order of execution, gives a tensor of a file; torch.onnx counts them."""
    return int(cast(re.Match[str], QUANTIZED.fullmatch(name))[1] or 0)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps (node behind which a quantizer stands, its scale, what it gives) of each."""

    def __init__(self, graph: fx.GraphModule):
        super().__init__(graph)
        self._graph = graph
        self.grids: list[tuple[str, float, torch.Tensor]] = []

    def run_node(self, node: fx.Node) -> object:
        values = super().run_node(node)
        quantizer = quantizer_of(self._graph, node)
        if isinstance(quantizer, StoredQuantizer):
            self.grids.append((node.all_input_nodes[0].name, quantizer.scale.item(), values.cpu()))
        return values
