"""The numbers of docs/glossary.md: settings of the code."""

import inspect
from collections.abc import Iterator
from math import sqrt

from zeroq.distillation import fast, published
from zeroq.images import UNIFORM_LIMIT


def passages() -> Iterator[str]:
    default = {name: each.default for name, each in inspect.signature(published.distill).parameters.items()}
    yield f"Adam, {default['iterations']} iterations, learning rate {default['learning_rate']}"
    yield f"uniform noise of standard deviation {UNIFORM_LIMIT / sqrt(3):.4f}"
    yield f"pixels stay within {fast.FARTHEST_PIXEL:g} standard deviations"
    yield f"cuts {100 - 99.9:.1f} % of each activation's values off at both ends"
