"""An exported file in onnxruntime, as a network that the project's own evaluation scores."""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import nn
from torch.utils import _pytree as pytree

from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra
from zeroq.export.model import PREFIX
from zeroq.export.separate import with_separate_weights

with imported_from_extra():
    import onnx
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

QUIET = 4  # what ends a session is raised
KERNEL = "_kernel_time"
INTEGER_CONVOLUTION = "QLinearConv"
# x86 processors without VNNI add products of uint8 and int8 in pairs, in 16 bits that may overflow. With this they take
# a slower way, whose sums are right; it changes nothing elsewhere.
EXACT_SUMS = "session.x64quantprecision"
SHARED = "Attempt to replace the existing tensor"  # what it then says of a weight that several nodes share


class OnnxNetwork(nn.Module):
    """An ONNX file on the CPU: float images [N, C, H, W] → what the exported network gives.

    Of a file that ``export_onnx`` did not write, its first output. ``threads`` is how many of them onnxruntime uses,
    None for as many as PyTorch. Raises ZeroQError for a file that onnxruntime does not take, and, when it is called,
    for images that the file does not take.
    """

    def __init__(self, path: Path | str, *, threads: int | None = None):
        super().__init__()
        self.session = session(path, threads=threads)
        outputs = self.session.get_modelmeta().custom_metadata_map.get(f"{PREFIX}outputs")
        self.structure = outputs and pytree.treespec_loads(outputs)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor | dict[str, Any] | list[Any]:
        outputs = run(self.session, images)
        if self.structure is None:
            return torch.from_numpy(outputs[0])
        return pytree.tree_unflatten([torch.from_numpy(output) for output in outputs], self.structure)


def session(
    path: Path | str, *, threads: int | None = None, optimized: Path | None = None, profiled: Path | None = None
) -> onnxruntime.InferenceSession:
    """onnxruntime's session of a file; ``optimized`` is where to write the graph that it really runs,
    ``profiled`` the folder for a profile.

    Raises ZeroQError for a file that onnxruntime does not take.
    """
    if not Path(path).is_file():
        raise ZeroQError(f"there is no file {path}; export the network first")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    options.add_session_config_entry(EXACT_SUMS, "1")
    options.intra_op_num_threads = threads or torch.get_num_threads()
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profiled is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profiled / "profile")
    try:
        try:
            return _opened(path, options)
        except onnxruntime_errors.Fail as error:
            if SHARED not in str(error):
                raise
        try:
            return _opened(with_separate_weights(path), options)
        except onnxruntime_errors.Fail:  # a file that others wrote may share what this project's do not
            options.add_session_config_entry(EXACT_SUMS, "0")
            return _opened(path, options)
    except Exception as error:  # onnxruntime's own have no base class of theirs
        raise ZeroQError(f"onnxruntime does not take {path}: {_reason(error)}") from error


def _opened(model: Path | str | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])


def run(runtime: onnxruntime.InferenceSession, images: torch.Tensor) -> list[numpy.ndarray]:
    """All outputs; raises ZeroQError for images that the file does not take, and where a kernel refuses its input."""
    (wanted, *_) = runtime.get_inputs()
    try:
        return runtime.run(None, {wanted.name: images.float().contiguous().cpu().numpy()})
    except onnxruntime_errors.InvalidArgument as error:
        shape = ", ".join(str(side) for side in wanted.shape)
        raise ZeroQError(f"the file takes images of shape [{shape}], not {list(images.shape)}") from error
    except onnxruntime_errors.Fail as error:
        raise ZeroQError(f"onnxruntime cannot run the file: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What onnxruntime says, without its codes."""
    return str(error).splitlines()[0].rpartition(" : ")[2]


def optimized_graph(path: Path) -> onnx.GraphProto:
    """The graph that onnxruntime runs, after it fused what it can."""
    with tempfile.TemporaryDirectory() as folder:
        session(path, optimized=(written := Path(folder) / "optimized.onnx"))
        return onnx.load(written).graph


def kernels(path: Path) -> Counter[str]:
    """How often each operator stands in the graph that onnxruntime runs."""
    return Counter(node.op_type for node in optimized_graph(path).node)


def profile(
    path: Path | str, images: torch.Tensor, *, threads: int | None = None, repetitions: int = 50
) -> tuple[onnx.GraphProto, list[tuple[str, float]]]:
    """The graph that onnxruntime runs, and (node's name, milliseconds) of all its runs, without the first of the file.

    Arguments and errors as in ``latencies``.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        runtime = session(path, threads=threads, optimized=optimized, profiled=Path(folder))
        for _ in range(repetitions + 1):
            run(runtime, images)
        events = json.loads(Path(runtime.end_profiling()).read_text())
        graph = onnx.load(optimized).graph
    kernels = [each for each in events if each["cat"] == "Node" and each["name"].endswith(KERNEL)]
    first = len(kernels) // (repetitions + 1)  # every run has the same kernels
    return graph, [(each["name"].removesuffix(KERNEL), each["dur"] / 1000) for each in kernels[first:]]


def latencies(
    paths: Sequence[Path | str], images: torch.Tensor, *, threads: int | None = None, repetitions: int = 50
) -> list[list[float]]:
    """Milliseconds that ONNX files take for the same images, in turns: [files][repetitions].

    ``threads`` is how many onnxruntime uses, None for as many as PyTorch. Raises ZeroQError for a file that it does not
    take, and for images that a file does not take.
    """
    sessions = [session(path, threads=threads) for path in paths]
    found: list[list[float]] = [[] for _ in sessions]
    for repetition in range(repetitions + 1):
        for each, times in zip(sessions, found, strict=True):
            started = time.perf_counter()
            run(each, images)
            if repetition:  # the first one warms up
                times.append(1000 * (time.perf_counter() - started))
    return found
