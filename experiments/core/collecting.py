"""Finished runs on their way from a working folder into the committed results, and back."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock
from omegaconf import OmegaConf

from experiments.core.record import record_folder, validation_error, write_json
from experiments.core.results import (
    PICTURES,
    TABLES,
    KeptRuns,
    RunFolders,
    network_file,
    picture_name,
    record_of,
    sha256,
)
from zeroq.errors import ZeroQError

# Settings that say where a run worked, not what it did.
PLACES = ("outputs", "results")
# Files are moved to their places in this order: what lines refer to comes before the lines.
ORDER = ("pictures", "stages", "networks.json", "runs")
# From contents by run to the (run, name) pairs of pictures that figures show.
Shown = Callable[[Mapping[str, Any]], Iterable[tuple[str, str]]]


@dataclass
class Report:
    """Names of runs that are new, replace others, or were there as they are, and why others were refused."""

    new: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def collect(runs: Path, results: Path, shown: Shown) -> Report:
    """Add the finished runs below ``runs`` to the committed results, in place of those of the same names.

    Of pictures, only what ``shown`` names is kept; tables and pictures that no line refers to any more go. Two
    processes do this one after the other. Raises ZeroQError where there is no run and where the results are damaged,
    OSError where they cannot be written; then they stay as they were.
    """
    results.mkdir(parents=True, exist_ok=True)
    with FileLock(results / ".lock"):
        kept, folders, report = KeptRuns(results), RunFolders(runs), Report()
        for name, content in kept.contents().items():
            if reason := validation_error(content):
                raise ZeroQError(f"{name} of {results / 'runs'} cannot be used ({reason}); restore it first")
        if not (contents := folders.contents()):
            raise ZeroQError(f"there are no finished runs in {runs}")
        lines, parameters, fresh = dict(kept.lines), dict(kept.parameters), {}
        for run, content in contents.items():
            try:
                line, files = line_of(folders, run, content)
            except ZeroQError as error:
                report.refused[run] = str(error)
                continue
            (report.new if run not in lines else report.same if lines[run] == line else report.replaced).append(run)
            lines[run], parameters[line["network"]] = line, content["parameters"]
            fresh |= {line["files"][name]: file for name, file in files.items()}

        def file_of(run: str, name: str) -> bytes:
            digest = lines[run]["files"][name]
            try:
                return fresh[digest] if digest in fresh else kept.read(run, name)
            except ValueError as error:
                raise ZeroQError(f"{error}; restore it first") from error

        replace_files(results, files_of(lines, parameters, file_of, shown))
    return report


def line_of(folders: RunFolders, run: str, content: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A run's line, and the files that it names; raises ZeroQError for a run that is damaged."""
    if reason := validation_error(content):
        raise ZeroQError(reason)
    try:
        config = yaml.safe_load(folders.read(run, "config.yaml"))
    except (OSError, yaml.YAMLError) as error:
        raise ZeroQError(f"its config.yaml cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict):
        raise ZeroQError("its config.yaml holds no settings")
    files = {}
    for name in (*TABLES, *PICTURES):
        try:
            files[name] = folders.read(run, name)
            if name in TABLES:
                files[name].decode()
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise ZeroQError(f"its {name} cannot be read: {error}") from error
    return {
        "run": run,
        **{key: value for key, value in content.items() if key != "parameters"},
        "config": {key: value for key, value in config.items() if key not in PLACES},
        "files": {name: sha256(file) for name, file in files.items()},
    }, files


def files_of(
    lines: Mapping[str, dict[str, Any]],
    parameters: Mapping[str, dict[str, int]],
    file_of: Callable[[str, str], bytes],
    shown: Shown,
) -> dict[str, bytes]:
    """All that results of these lines consist of: path below the folder → content."""
    runs: dict[str, list[dict]] = defaultdict(list)
    tables: dict[str, dict[tuple[str, str], dict]] = defaultdict(dict)
    for run, line in sorted(lines.items()):
        network = network_file(line)
        runs[network].append(line)
        for name in TABLES:
            if (digest := line["files"].get(name)) and (name, digest) not in tables[network]:
                try:
                    text = file_of(run, name).decode()
                except FileNotFoundError as error:
                    raise ZeroQError(f"{error}; restore it first") from error
                tables[network][name, digest] = {"sha256": digest, "name": name, "text": text}
    networks = sorted({line["network"] for line in lines.values()})
    found = {"networks.json": (json.dumps({key: parameters[key] for key in networks}, indent=1) + "\n").encode()}
    found |= {f"runs/{network}.jsonl": json_lines(own) for network, own in runs.items()}
    found |= {f"stages/{network}.jsonl": json_lines(own[key] for key in sorted(own)) for network, own in tables.items()}
    contents = {run: record_of(line, parameters) for run, line in lines.items()}
    for run, name in shown(contents):
        if digest := lines[run]["files"].get(name):
            try:
                found[f"pictures/{picture_name(digest)}"] = file_of(run, name)
            except FileNotFoundError:
                continue  # it was not shown before, and is not kept
    return found


def json_lines(items: Iterable[dict[str, Any]]) -> bytes:
    """One compact line an item."""
    return "".join(json.dumps(item, separators=(",", ":")) + "\n" for item in items).encode()


def replace_files(results: Path, wanted: Mapping[str, bytes]) -> None:
    """Make runs, stages, pictures and networks of a folder these: all are written first, then moved to their places."""
    present = [
        path for pattern in ("runs/*.jsonl", "stages/*.jsonl", "pictures/*.png") for path in results.glob(pattern)
    ]
    partial: dict[Path, Path] = {}
    try:
        for name in sorted(wanted, key=lambda name: ORDER.index(name.partition("/")[0])):
            path = results / name
            if not path.exists() or path.read_bytes() != wanted[name]:
                path.parent.mkdir(exist_ok=True)
                partial[path] = path.with_name(f".{path.name}.partial")
                partial[path].write_bytes(wanted[name])
        for path, written in partial.items():
            written.replace(path)
        for path in present:
            if str(path.relative_to(results)) not in wanted:
                path.unlink()
    finally:
        for written in partial.values():
            written.unlink(missing_ok=True)


def unpack(results: Path, run: str, folder: Path) -> Path:
    """Make ``folder/run`` of a kept run: its record, config, tables, and picture where it is kept; the new folder.

    Raises ZeroQError where there is no such run, where it is damaged, and where its folder is there already.
    """
    kept = KeptRuns(results)
    contents = kept.contents()
    if run not in contents:
        raise ZeroQError(f"there is no run {run} in {results / 'runs'}")
    if reason := validation_error(contents[run]):
        raise ZeroQError(f"{run} in {results / 'runs'} cannot be used ({reason})")
    if (folder / run).exists():
        raise ZeroQError(f"{folder / run} is there already; remove it, or choose another folder")
    with record_folder(folder, run) as scratch:
        for name in kept.lines[run]["files"]:
            try:
                (scratch / name).write_bytes(kept.read(run, name))
            except FileNotFoundError:
                continue  # a picture that no figure shows
            except ValueError as error:
                raise ZeroQError(f"{error}; restore it first") from error
        OmegaConf.save(OmegaConf.create(kept.config(run)), scratch / "config.yaml")
        write_json(scratch / "record.json", contents[run])
    return folder / run


def folder_of(run: str, *, outputs: Path, results: Path) -> Path:
    """The folder of a run that is named by its path, or by its name: then a kept one is unpacked where it is missing.

    Raises ZeroQError for a name that is neither in ``outputs`` nor kept.
    """
    if Path(run).name != run or Path(run).is_dir():
        return Path(run)
    folder = outputs / "runs" / run
    return folder if folder.exists() else unpack(results, run, folder.parent)
