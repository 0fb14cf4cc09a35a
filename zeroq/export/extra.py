"""Packages that an extra installs, and nothing else of the library needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from zeroq.errors import ZeroQError


@contextmanager
def imported_from_extra(extra: str = "export", *, user: str = "exports need") -> Iterator[None]:
    """Around imports of the packages that an extra installs; raises ZeroQError where one is missing.

    ``user`` begins its sentence: what needs the package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ZeroQError(
            f'{user} {package}, which is not installed; pip install "zeroq[{extra}]" (".[{extra}]" in a clone)'
        ) from error
