"""ZeroQ with uniform noise of standard deviation 0.0136 instead of distilled images: what others call random data."""

from zeroq.methods import Method

METHOD = Method("uniform_noise", images="uniform_noise")
