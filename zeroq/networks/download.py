"""Downloads of published weights that fail at once, in one sentence, where there is no internet."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies

from zeroq.errors import ZeroQError

SECONDS = 5  # to wait for a host


@contextmanager
def downloading(weights: str, *, url: str, folder: Path) -> Iterator[None]:
    """Inside, a library fetches the weights from ``url`` into ``folder``, unless they lie there already.

    Raises ZeroQError, with where to put the file by hand, where the host does not answer (libraries would retry for
    long) and where the download fails.
    """
    place = "unpack" if url.endswith(".zip") else "put"
    with explained(weights, f"{place} {url} into {folder} by hand"):
        if not (folder / Path(url).name.removesuffix(".zip")).is_file() and not reachable(urlparse(url).hostname):
            raise OSError(f"{urlparse(url).hostname} does not answer")
        yield


@contextmanager
def explained(weights: str, mend: str) -> Iterator[None]:
    """Turn a failed download of named weights into one sentence that ends in a mend."""
    try:
        yield
    # What urllib, requests, huggingface_hub and pytorchcv raise where nothing answers or the content is not right.
    except (OSError, ValueError, RuntimeError, UserWarning) as error:
        if isinstance(error, ZeroQError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ZeroQError(
            f"the weights of {weights} could not be obtained ({reason}); connect to the internet once, or {mend}"
        ) from error


def reachable(host: str) -> bool:
    """Whether a host answers; behind a proxy nobody can tell beforehand."""
    if "https" in getproxies():
        return True
    try:
        socket.create_connection((host, 443), SECONDS).close()
    except OSError:
        return False
    return True
