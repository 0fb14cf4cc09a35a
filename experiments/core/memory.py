"""What does not fit into memory is a mistake of the settings, told in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from zeroq.errors import ZeroQError
from zeroq.memory import is_out_of_memory


@contextmanager
def within_memory(what: str) -> Iterator[None]:
    """Raise ZeroQError where memory does not suffice for what the block does."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ZeroQError(
            f"memory does not suffice for {what}; choose fewer images (distill.count=…) or smaller ones "
            f"(distill.size=…), or a machine with more"
        ) from error
