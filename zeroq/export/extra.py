"""The packages that exports need, and nothing else of the library does."""

from collections.abc import Iterator
from contextlib import contextmanager

from zeroq.errors import ZeroQError


@contextmanager
def imported_from_extra() -> Iterator[None]:
    """Around imports of the packages that the extra ``export`` installs; raises ZeroQError where one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = error.name.partition(".")[0]
        raise ZeroQError(
            f'exports need {package}, which is not installed; pip install "zeroq[export]" (".[export]" in a clone)'
        ) from error
