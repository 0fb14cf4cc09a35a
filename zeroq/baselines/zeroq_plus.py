"""ZeroQ with all that distilled images can do: compensated rounding, clipped ranges, corrected biases, every width."""

from zeroq.methods import Method

METHOD = Method(
    "zeroq+",
    bias_correction="empirical",
    rounding="compensated",
    clipping="output_error",
    candidates=(2, 3, 4, 5, 6, 7, 8),
    sensitivity="estimated",
    recipe="natural",
)
