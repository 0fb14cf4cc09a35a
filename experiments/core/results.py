"""The committed form of finished runs, which grows by lines: what lies below ``results``.

``runs/<network>.jsonl`` has a line a run, sorted by name: its name as ``run``, all fields of its record but
``parameters``, its ``config``, and in ``files`` the SHA-256 of each file that it left. ``networks.json`` has the
``parameters`` of each network by its hash. ``stages/<network>.jsonl`` has a line for each different table (``sha256``,
``name``, and the CSV as ``text``), ``pictures`` a PNG for each picture that a figure shows, named after its hash.
``<network>`` is the record's ``model`` with - for /.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from experiments.core.record import FIELDS, Record, read_content
from zeroq.errors import ZeroQError

# What a line has beside the fields of a record.
BESIDE = ("run", "config", "files")
TABLES = ("sensitivity.csv", "distill_loss.csv")
PICTURES = ("distilled.png", "calibration.png")
# A run's name is that of its folder, beside which are others with a dot in front.
RUN, DIGEST = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*"), re.compile(r"[0-9a-f]{64}")
# Characters of a hash that name a picture.
SHORT = 20


class KeptRuns:
    """The runs of a ``results`` folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._tables = cache(self._read_tables)

    @cached_property
    def lines(self) -> dict[str, Any]:
        """Run → its line; for one that cannot be read, file and number → the exception."""
        found: dict[str, Any] = {}
        for path in sorted((self.folder / "runs").glob("*.jsonl")):
            for number, line in numbered_lines(path):
                if isinstance(line, Exception) or (line := checked_line(line)) is None:
                    reason = line or ValueError("it has no run, network, config or files")
                    found[f"{path.name}, line {number}"] = reason
                else:
                    found[line["run"]] = line
        return found

    @cached_property
    def parameters(self) -> dict[str, dict[str, int]]:
        """Hash of a network → layer → number of weights."""
        path = self.folder / "networks.json"
        try:
            networks = json.loads(path.read_bytes()) if path.exists() else {}
        except ValueError as error:
            raise ZeroQError(f"{path} is damaged ({error}); restore it") from error
        if not isinstance(networks, dict):
            raise ZeroQError(f"{path} is damaged (no dictionary); restore it")
        return networks

    def contents(self) -> dict[str, Any]:
        """Run → what its ``record.json`` held, or the exception where it cannot be read."""
        return {run: self._content(line) for run, line in self.lines.items()}

    def config(self, run: str) -> dict[str, Any]:
        """The settings that a run was made with."""
        return self.lines[run]["config"]

    def read(self, run: str, name: str) -> bytes:
        """A file of a run; raises FileNotFoundError for one that is not kept, and ValueError for a damaged one."""
        line = self.lines[run]
        if not (digest := line.get("files", {}).get(name)):
            raise FileNotFoundError(f"{run} has no {name}")
        if name in TABLES:
            text = self._tables(network_file(line)).get(digest)
            content = None if text is None else text.encode()
        else:
            path = self.folder / "pictures" / picture_name(digest)
            content = path.read_bytes() if path.exists() else None
        if content is None:
            raise FileNotFoundError(f"{name} of {run} is not kept in {self.folder}")
        if sha256(content) != digest:
            raise ValueError(f"{name} of {run} is damaged in {self.folder}")
        return content

    def _content(self, line: Any) -> Any:
        if isinstance(line, Exception):
            return line
        return record_of(line, self.parameters)

    def _read_tables(self, network: str) -> dict[str, str]:
        path = self.folder / "stages" / f"{network}.jsonl"
        lines = (line for _, line in numbered_lines(path)) if path.exists() else ()
        whole = (line for line in lines if isinstance(line, dict) and {"sha256", "text"} <= line.keys())
        return {line["sha256"]: line["text"] for line in whole}


class RunFolders:
    """Runs that are a folder each, below ``runs`` of an ``outputs`` folder."""

    def __init__(self, runs: Path):
        self.runs = runs

    def contents(self) -> dict[str, Any]:
        """Run → what its ``record.json`` holds, or the exception where it cannot be read."""
        # Folders with a dot in front are runs at work, or killed at work.
        paths = sorted(self.runs.glob("[!.]*/record.json"))
        return {path.parent.name: read_content(path) for path in paths}

    def read(self, run: str, name: str) -> bytes:
        """A file of a run; raises FileNotFoundError for one that is not there."""
        return (self.runs / run / name).read_bytes()


def numbered_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(number, content) of each line of a file of JSON lines; an exception for one that is none."""
    for number, text in enumerate(path.read_bytes().splitlines(), 1):
        try:
            yield number, json.loads(text)
        except (ValueError, RecursionError) as error:
            yield number, error


def checked_line(line: Any) -> dict[str, Any] | None:
    """A line that has what all of them have beside the fields of a record; None for any other."""
    kinds = {"run": str, "model": str, "network": str, "config": dict, "files": dict}
    if not isinstance(line, dict) or not all(isinstance(line.get(key), kinds[key]) for key in kinds):
        return None
    # All of these become names of files.
    known = line["files"].keys() <= {*TABLES, *PICTURES}
    digests = all(isinstance(each, str) and DIGEST.fullmatch(each) for each in line["files"].values())
    return line if known and digests and RUN.fullmatch(line["run"]) and RUN.fullmatch(network_file(line)) else None


def record_of(line: dict[str, Any], parameters: dict[str, dict[str, int]]) -> dict[str, Any]:
    """The record in a line, with its network's ``parameters`` where they are known, in the order of ``Record``."""
    own = {key: value for key, value in line.items() if key not in BESIDE}
    if line.get("network") in parameters:
        own["parameters"] = parameters[line["network"]]
    return {key: own[key] for key in FIELDS if key in own} | own


def network_file(record: Record | dict[str, Any]) -> str:
    """The name, without suffix, of the files that hold a run's line and tables."""
    return record["model"].replace("/", "-")


def picture_name(digest: str) -> str:
    """What a picture is called."""
    return f"{digest[:SHORT]}.png"


def sha256(content: bytes) -> str:
    """The hash that files are known by."""
    return hashlib.sha256(content).hexdigest()
