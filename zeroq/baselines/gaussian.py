"""ZeroQ with N(0, 1) noise instead of distilled images."""

from zeroq.methods import Method

METHOD = Method("gaussian", images="gaussian")
