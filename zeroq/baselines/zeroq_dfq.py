"""DFQ's steps on the weights, ranges and sensitivities from distilled images."""

from zeroq.baselines.dfq import Steps
from zeroq.methods import Method

METHOD = Method("zeroq+dfq", steps=Steps(), bias_correction="analytic")
