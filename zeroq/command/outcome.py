"""What ``zeroq quantize`` finds out."""

from dataclasses import dataclass

from zeroq.command.networks import NamedNetwork
from zeroq.export.onnx_file import ExportReport
from zeroq.methods import Method
from zeroq.pipeline import QuantizationResult


@dataclass(frozen=True)
class Outcome:
    """A quantized network and its file.

    ``agreement`` is the share of images for which the file gives the class that the float network gives, None where
    the output holds no classes; ``milliseconds`` are the float file's and the quantized one's for one image, on one
    thread of the processor; ``seconds`` is what each stage took.
    """

    network: NamedNetwork
    method: Method
    result: QuantizationResult
    file: ExportReport
    agreement: float | None
    milliseconds: tuple[float, float]
    seconds: dict[str, float]
