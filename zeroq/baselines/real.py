"""ZeroQ with training images instead of distilled ones: the upper bound, which needs data."""

from zeroq.methods import Method

METHOD = Method("real", images="real")
