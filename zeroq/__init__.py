"""ZeroQ: quantize a trained convolutional network without data.

Cai, Yao, Dong, Gholami, Mahoney, Keutzer: ZeroQ: A Novel Zero Shot Quantization Framework (CVPR 2020).
"""

from zeroq.baselines.dfq import Steps
from zeroq.errors import ZeroQError
from zeroq.images.batch_norm import batch_norm_loss
from zeroq.images.distill import DistillationDivergedError, distill
from zeroq.images.noise import gaussian_images
from zeroq.pipeline import (
    QuantizationResult,
    Settings,
    quantize_naively,
    quantize_with_dfq,
    quantize_with_images,
    zero_shot_quantize,
)
from zeroq.precision.frontier import ParetoFrontier, allocate, pareto_frontier
from zeroq.precision.plan import BitPlan
from zeroq.precision.refine import refine
from zeroq.precision.sensitivity import SensitivityTable, sensitivity
from zeroq.quantization.activations import NotCalibratedError
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import quantize
from zeroq.quantization.size import size_mib

__all__ = [
    "BitPlan",
    "DistillationDivergedError",
    "NotCalibratedError",
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
    "gaussian_images",
    "pareto_frontier",
    "quantize",
    "quantize_naively",
    "quantize_with_dfq",
    "quantize_with_images",
    "refine",
    "sensitivity",
    "size_mib",
    "zero_shot_quantize",
]
