"""The naive baseline: round to nearest, one weight range a tensor, each batch's own activation range, no images."""

from zeroq.methods import Method

METHOD = Method("naive", images="none", ranges="batch", per_channel=False)
