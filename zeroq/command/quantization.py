"""``zeroq quantize``: a network's name and a budget → an ONNX file, and what can be said of it."""

import argparse
import re
import tempfile
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from torch import nn
from torch.nn import functional

from zeroq.command.networks import NamedNetwork, network_named
from zeroq.command.outcome import Outcome
from zeroq.command.page import page
from zeroq.command.pictures import pictures
from zeroq.command.presentation import results, show_outcome
from zeroq.command.progress import ShownStages
from zeroq.errors import ZeroQError
from zeroq.export.onnx_file import check_folder, export_float_onnx, export_onnx
from zeroq.export.runtime import OnnxNetwork, latencies
from zeroq.images import gaussian_images
from zeroq.methods import Method, method_by_name
from zeroq.mixed_precision.outputs import UnreadableOutputError, class_scores
from zeroq.modules import evaluating
from zeroq.pipeline import QuantizationResult
from zeroq.quantization.size import average_bits_for, parameter_count
from zeroq.whole import write_whole
from zeroq.zero_shot import zero_shot_quantize

BITS = re.compile(r"(mp|w)(\d+(?:\.\d+)?)a(\d+)", re.IGNORECASE)
ACTIVATION_BITS = 8  # beside a budget in MiB
BATCH = 32
PICTURES = 32


def quantize(given: argparse.Namespace) -> None:
    """Carry out a command line; raises ZeroQError, and nothing is written then."""
    for path in filter(None, (given.out, given.report)):
        check_writable(path)
    method = method_by_name(given.method)
    stages = ShownStages(Console(stderr=True))
    device = chosen_device(given.device)
    with stages.shown("load the network"):
        network = network_named(
            given.network,
            checkpoint=given.checkpoint,
            classes=given.classes,
            shape=given.shape and tuple(given.shape),
            mean=given.mean,
            std=given.std,
        )
        images = given.images and pictures(given.images, network, given.count or PICTURES, seed=given.seed)
    weight_bits, activation_bits, mixed = budget(network.module, method, given.bits, given.size_mib)
    check_method(method, mixed=mixed, has_images=images is not None)
    network.module.to(device)
    result = zero_shot_quantize(
        network.module,
        network.shape,
        weight_bits,
        activation_bits,
        mixed,
        method=given.method,
        images=images,
        count=given.count,
        iterations=given.iterations,
        seconds=given.seconds,
        seed=given.seed,
        limits=None if network.input is None else network.input.limits,
        placement=given.placement,
        run_stage=stages,
    )
    with tempfile.TemporaryDirectory(dir=given.out.parent, prefix=f".{given.out.name}-") as scratch:
        outcome = exported(network, method, result, Path(scratch), given.out, stages)
        if given.report:
            write_whole(given.report, page(outcome))
        (Path(scratch) / given.out.name).replace(given.out)
    show_outcome(outcome, results())


def exported(
    network: NamedNetwork,
    method: Method,
    result: QuantizationResult,
    scratch: Path,
    out: Path,
    stages: ShownStages,
) -> Outcome:
    """The file, in ``scratch`` under the name of ``out``, compared with the float network and timed beside its file."""
    module, example = network.module, gaussian_images(network.shape, 1)
    with stages.shown("write and verify the file"):
        report = export_onnx(result.model, scratch / out.name, example, metadata=metadata(network, method, result))
        reference = export_float_onnx(module, scratch / "float.onnx", example)
    with stages.shown("compare and time it"):
        compared = result.images if result.images is not None else gaussian_images(network.shape, BATCH)
        compared = functional.interpolate(compared, network.shape[1:], mode="bilinear")  # a file has one size
        same = agreement(module, OnnxNetwork(report.path), compared)
        times = latencies([reference, report.path], example, threads=1)
    in_float, in_integers = (median(each) for each in times)
    return Outcome(network, method, result, replace(report, path=out), same, (in_float, in_integers), stages.seconds)


def metadata(network: NamedNetwork, method: Method, result: QuantizationResult) -> dict[str, str]:
    """What a file says of itself beside its plan."""
    settings = result.settings
    mean = f"{settings.weight_bits:g}" if not isinstance(settings.weight_bits, dict) else ""
    words = {
        "model": network.name,
        "method": method.name,
        "w_bits": f"MP{mean}" if settings.mixed else mean,
        "a_bits": str(settings.activation_bits),
        "placement": settings.placement,
        "size_mib": f"{result.report['size_mib']:.4f}",
        "fp32_size_mib": f"{result.report['fp32_size_mib']:.4f}",
    }
    if network.input is not None:
        words |= {"mean": str(network.input.mean), "std": str(network.input.std)}
    try:
        return words | {"version": version("zeroq")}
    except PackageNotFoundError:  # run from a clone
        return words


def budget(module: nn.Module, method: Method, bits: str, size_mib: float | None) -> tuple[float | int, int, bool]:
    """(weight bits, activation bits, whether they are a mean) that ``--bits`` or ``--size-mib`` say."""
    if size_mib is not None:
        smallest, largest = min(method.candidates), max(method.candidates)
        mean = average_bits_for(module, size_mib)
        if not mean >= smallest:
            least = smallest / average_bits_for(module, 1)
            raise ZeroQError(
                f"{parameter_count(module):,} parameters do not fit into {size_mib:g} MiB: with {smallest} bits each "
                f"they take {least:.2f} MiB; give --size-mib at least that"
            )
        return min(mean, largest), ACTIVATION_BITS, True
    found = BITS.fullmatch(bits)
    if found is None:
        raise ZeroQError(f"--bits is mp4a8 (4 bits a weight on average, 8 an activation) or w8a8, not {bits!r}")
    mixed = found[1].lower() == "mp"
    if not mixed and "." in found[2]:
        raise ZeroQError(f"--bits {bits}: uniform weights have a whole number of bits; mp{found[2]}a8 is a mean")
    return (float(found[2]) if mixed else int(found[2])), int(found[3]), mixed


def check_method(method: Method, *, mixed: bool, has_images: bool) -> None:
    """Raise ZeroQError, in words of the command line, for what would be refused in those of the library."""
    if method.ranges == "batch":
        raise ZeroQError(
            f"method {method.name} has no fixed ranges of activations, and a file needs them; choose another"
        )
    if method.bias_correction == "weights":
        raise ZeroQError(f"method {method.name} moves weights between the integers that a file holds; choose another")
    if mixed and not method.measures_sensitivities:
        raise ZeroQError(
            f"method {method.name} cannot choose bits layer by layer; give all the same, as in --bits w8a8"
        )
    if method.images == "real" and not has_images:
        raise ZeroQError(f"method {method.name} needs pictures of yours, --images FOLDER")


def check_writable(path: Path) -> None:
    """Raise ZeroQError where a file cannot be written: now, and not after minutes of work."""
    check_folder(path)
    if path.is_dir():
        raise ZeroQError(f"{path} is a folder; name a file")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ZeroQError(f"cannot write {path} ({error.strerror}); choose another place") from error


def chosen_device(name: str) -> torch.device:
    """The device of this name; raises ZeroQError for one that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ZeroQError(f"there is no device {name!r} here; leave --device out, or --device cpu") from error


def agreement(module: nn.Module, file: nn.Module, images: torch.Tensor) -> float | None:
    """The share of images, or of pixels, that have the same class; None where the output holds no classes."""
    same = []
    with evaluating(module), torch.no_grad():
        for batch in images.split(BATCH):
            try:
                expected, found = (class_scores(network, batch).cpu() for network in (module, file))
            except UnreadableOutputError:
                return None
            if expected.dim() == 3:  # of anchors, each with several yes or no
                return None
            same.append((expected.argmax(1) == found.argmax(1)).double().flatten())
    return torch.cat(same).mean().item()
