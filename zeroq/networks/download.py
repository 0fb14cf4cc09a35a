"""Published weights as files whose hash is right; where there is no internet, one sentence at once."""

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies

from torch import hub

from zeroq.errors import ZeroQError

SECONDS = 5  # to wait for a host


def published_file(weights: str, url: str) -> Path:
    """The file at a torch hub address, from torch's folder, or downloaded into it.

    Its name ends in the first digits of its sha256. Libraries trust a file that lies in that folder, whoever put it
    there. Raises ZeroQError for one of another content, and as ``downloading`` does.
    """
    path = Path(hub.get_dir()) / "checkpoints" / Path(url).name
    with downloading(weights, url=url, folder=path.parent):
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(url, str(path), hash_prefix=digits_of(url))
    if not is_published(path, url):
        raise ZeroQError(
            f"{path} is not what {url} gives: its sha256 does not begin with {digits_of(url)}; delete it, and it is "
            f"downloaded again"
        )
    return path


def is_published(path: Path, url: str) -> bool:
    """Whether a file is the one at a torch hub address."""
    return sha256(path).startswith(digits_of(url))


def digits_of(url: str) -> str:
    """The first digits of a file's sha256, in which a torch hub address ends."""
    return Path(url).stem.rpartition("-")[2]


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def reachable(host: str | None) -> bool:
    """Whether a host answers; behind a proxy nobody can tell beforehand."""
    if "https" in getproxies():
        return True
    try:
        socket.create_connection((host, 443), SECONDS).close()
    except OSError:
        return False
    return True
