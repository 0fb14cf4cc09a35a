"""ZeroQ: quantize a trained convolutional network without data.

Cai, Yao, Dong, Gholami, Mahoney, Keutzer: ZeroQ: A Novel Zero Shot Quantization Framework (CVPR 2020).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a program imports a name when it first uses it: __getattr__
    from zeroq.baselines.dfq import Steps
    from zeroq.distillation.batch_norm import batch_norm_loss
    from zeroq.distillation.fast import distill_fast
    from zeroq.distillation.published import DistillationDivergedError, distill
    from zeroq.errors import ZeroQError
    from zeroq.export.calibration_reader import CalibrationReader
    from zeroq.export.calibration_set import export_calibration_set, read_calibration_set
    from zeroq.export.integer_arithmetic import integer_arithmetic
    from zeroq.export.onnx_file import ExportReport, export_float_onnx, export_onnx
    from zeroq.export.runtime import OnnxNetwork, latencies
    from zeroq.images import gaussian_images
    from zeroq.mixed_precision.frontier import ParetoFrontier, allocate, pareto_frontier
    from zeroq.mixed_precision.plan import BitPlan
    from zeroq.mixed_precision.refine import refine
    from zeroq.mixed_precision.sensitivity import SensitivityTable, sensitivity
    from zeroq.pipeline import (
        QuantizationResult,
        quantize_naively,
        quantize_with_dfq,
        quantize_with_images,
        zero_shot_quantize,
    )
    from zeroq.quantization.activations import NotCalibratedError
    from zeroq.quantization.calibrate import calibrate
    from zeroq.quantization.convert import quantize
    from zeroq.quantization.size import size_mib
    from zeroq.settings import Settings

__all__ = [
    "BitPlan",
    "CalibrationReader",
    "DistillationDivergedError",
    "ExportReport",
    "NotCalibratedError",
    "OnnxNetwork",
    "ParetoFrontier",
    "QuantizationResult",
    "SensitivityTable",
    "Settings",
    "Steps",
    "ZeroQError",
    "allocate",
    "batch_norm_loss",
    "calibrate",
    "distill",
    "distill_fast",
    "export_calibration_set",
    "export_float_onnx",
    "export_onnx",
    "gaussian_images",
    "integer_arithmetic",
    "latencies",
    "pareto_frontier",
    "quantize",
    "quantize_naively",
    "quantize_with_dfq",
    "quantize_with_images",
    "read_calibration_set",
    "refine",
    "sensitivity",
    "size_mib",
    "zero_shot_quantize",
]

# Where each name is defined.
_HOMES = {
    "zeroq.baselines.dfq": ("Steps",),
    "zeroq.errors": ("ZeroQError",),
    "zeroq.export.calibration_reader": ("CalibrationReader",),
    "zeroq.export.calibration_set": ("export_calibration_set", "read_calibration_set"),
    "zeroq.export.integer_arithmetic": ("integer_arithmetic",),
    "zeroq.export.onnx_file": ("ExportReport", "export_float_onnx", "export_onnx"),
    "zeroq.export.runtime": ("OnnxNetwork", "latencies"),
    "zeroq.distillation.batch_norm": ("batch_norm_loss",),
    "zeroq.distillation.published": ("DistillationDivergedError", "distill"),
    "zeroq.distillation.fast": ("distill_fast",),
    "zeroq.images": ("gaussian_images",),
    "zeroq.pipeline": (
        *("QuantizationResult", "quantize_naively", "quantize_with_dfq", "quantize_with_images"),
        "zero_shot_quantize",
    ),
    "zeroq.mixed_precision.frontier": ("ParetoFrontier", "allocate", "pareto_frontier"),
    "zeroq.mixed_precision.plan": ("BitPlan",),
    "zeroq.mixed_precision.refine": ("refine",),
    "zeroq.mixed_precision.sensitivity": ("SensitivityTable", "sensitivity"),
    "zeroq.quantization.activations": ("NotCalibratedError",),
    "zeroq.quantization.calibrate": ("calibrate",),
    "zeroq.quantization.convert": ("quantize",),
    "zeroq.quantization.size": ("size_mib",),
    "zeroq.settings": ("Settings",),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: PyTorch and pandas take seconds, and not all that imports zeroq needs them."""
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
