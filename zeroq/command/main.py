"""What is typed, and how it ends: 0, or one sentence and 2."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from zeroq.errors import ZeroQError
from zeroq.export.extra import imported_from_extra

MISTAKE, INTERRUPTED = 2, 130
EXAMPLES = """
  zeroq quantize mypackage.nets:build --checkpoint mine.pt --shape 3 224 224 --bits mp4a8 --out quantized.onnx
  zeroq quantize timm:resnet18.a1_in1k --size-mib 6 --report page.html
  zeroq inspect quantized.onnx
"""
NETWORK = """MODULE:NAME, a function or class without arguments, or a network, of a module of yours;
timm:NAME, torchvision:NAME, pytorchcv:NAME or bundled:NAME; or FILE.pt2, a program of torch.export"""


def parser() -> argparse.ArgumentParser:
    """Every command and option."""
    form = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(
        "zeroq", description=f"Quantize a trained network without data.\n{EXAMPLES}", formatter_class=form
    )
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    quantize = commands.add_parser("quantize", help="quantize a network, and write an ONNX file that is verified")
    add = quantize.add_argument
    add("network", help=NETWORK)
    add("--checkpoint", type=Path, metavar="FILE", help="weights: a state dict or safetensors; no code in it is run")
    add("--classes", type=int, metavar="N", help="of the checkpoint, where they are not the library's")
    add("--shape", type=int, nargs=3, metavar=("C", "H", "W"), help="of the input; known of libraries and programs")
    budget = quantize.add_mutually_exclusive_group()
    budget.add_argument(
        "--bits", default="mp4a8", help="mp4a8 (default): 4 bits a weight on average, 8 an activation; w8a8: all 8"
    )
    budget.add_argument("--size-mib", type=float, metavar="MIB", help="of the parameters, instead of mean bits")
    add("--method", default="zeroq+", help="zeroq+ (default), zeroq (the paper's), or a baseline, such as dfq")
    add("--images", type=Path, metavar="FOLDER", help="pictures of yours, without labels, instead of distilled ones")
    add("--mean", type=float, nargs="+", metavar="M", help="of pixels in 0…1, by channel, that training subtracted")
    add("--std", type=float, nargs="+", metavar="S", help="and divided by (a library's own, or ImageNet's)")
    add("--count", type=int, metavar="N", help="how many images (zeroq+ 16, others 32)")
    add("--iterations", type=int, metavar="N", help="of distillation (the method's own)")
    add("--seconds", type=float, metavar="S", help="a budget of time for all that comes before the file")
    add("--seed", type=int, default=0, help="of images (0)")
    add("--placement", default="integer", help="integer (default), layer_inputs or after_relu: what is quantized")
    add("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one")
    add("--out", type=Path, default=Path("quantized.onnx"), metavar="FILE", help="the file (quantized.onnx)")
    add("--report", type=Path, metavar="FILE.html", help="a page with plan, sizes, sensitivities and images")
    inspect = commands.add_parser("inspect", help="show the plan, scales and metadata of such a file")
    inspect.add_argument("file", type=Path)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of a command line; None: the process's own."""
    given = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill cleans up like Ctrl-C
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        with imported_from_extra("cli", user="the command line needs"):
            import jinja2  # noqa: F401 what is asked for last should not be missing then
            import rich  # noqa: F401
        # Here, because they import PyTorch, and --help should not wait for it.
        if given.command == "inspect":
            from zeroq.command.inspection import inspect

            inspect(given.file)
        else:
            from zeroq.command.quantization import quantize

            quantize(given)
    except ZeroQError as error:
        return _end(str(error), MISTAKE)
    except OSError as error:
        return _end(f"cannot read or write {error.filename or 'a file'} ({error.strerror or error})", MISTAKE)
    except KeyboardInterrupt:
        return _end("interrupted; nothing is written", INTERRUPTED)
    return 0


def _end(sentence: str, status: int) -> int:
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    return status
