"""The records that may stand in tables and figures, and what is left out, with the reason.

``from_folders(results=…)`` collects the committed runs, ``from_folders(outputs=…)`` those of a folder that runs work
in, and both together both. A ``Collection`` knows where each of its records has its tables and pictures: its methods
``sensitivity``, ``frontier``, ``losses`` and ``picture`` read them.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import pandas

from experiments.analysis.labels import extra_settings
from experiments.core.record import NamedRecord, validation_error
from experiments.core.results import KeptRuns, RunFolders
from zeroq.errors import ZeroQError
from zeroq.mixed_precision.frontier import pareto_frontier
from zeroq.mixed_precision.sensitivity import SensitivityTable

# The float network's score differs by less between devices and versions of torch.
SAME_SCORE = {"top1": 0.2, "map": 0.005}


@dataclass(frozen=True)
class Omission:
    """A record that is not used. ``model`` and ``dataset`` are None where not even they could be read."""

    run: str
    reason: str
    model: str | None = None
    dataset: str | None = None

    @classmethod
    def of(cls, record: dict, reason: str) -> "Omission":
        """Of a record that could be read."""
        return cls(record["run"], reason, record["model"], record["dataset"])

    def __str__(self) -> str:
        return f"left out: {self.run} ({self.reason})"


class Source(Protocol):
    """Where runs lie; ``read`` gives a file of a run, and raises OSError where there is none."""

    def contents(self) -> dict[str, Any]: ...

    def read(self, run: str, name: str) -> bytes: ...


@dataclass(frozen=True)
class Collection:
    """Records that may be compared, those that may not, and where the files of the former are (run → source).

    What reads a file raises OSError where the run has none, and ValueError where it is damaged.
    """

    records: list[NamedRecord]
    omissions: list[Omission]
    sources: Mapping[str, Source] = field(default_factory=dict)

    def read(self, record: NamedRecord, name: str) -> bytes:
        """A file of a record's run."""
        if record["run"] not in self.sources:
            raise FileNotFoundError(f"{record['run']} has no files here")
        return self.sources[record["run"]].read(record["run"], name)

    def table(self, record: NamedRecord, name: str) -> pandas.DataFrame:
        """A CSV of a record's run, exactly as it was computed; the first column is the index."""
        return pandas.read_csv(io.BytesIO(self.read(record, name)), index_col=0)

    def sensitivity(self, record: NamedRecord) -> pandas.DataFrame:
        """Ω in nats, layer × bits."""
        return self.table(record, "sensitivity.csv").rename(columns=int)

    def frontier(self, record: NamedRecord) -> pandas.DataFrame:
        """The Pareto frontier that a run chose from: ``size_bits`` of the weights, and ``sensitivity``, their Σ Ω."""
        omega = self.sensitivity(record)
        # A mixed plan gives layers whose Ω is 0 everywhere a width that was no choice.
        unmeasured = omega.index[(omega == 0).all(axis=1)] if record["w_bits"].startswith("MP") else []
        fixed = {name: record["plan"][name] for name in unmeasured}
        points = pareto_frontier(SensitivityTable.of(omega, record["parameters"]), fixed=fixed)
        return pandas.DataFrame({"size_bits": points.size_bits, "sensitivity": points.sensitivities})

    def losses(self, record: NamedRecord) -> pandas.Series:
        """The BatchNorm loss of every iteration of a distillation."""
        return self.table(record, "distill_loss.csv").loss

    def picture(self, record: NamedRecord, name: str) -> bytes | None:
        """A PNG of a run's images, ``distilled.png`` or ``calibration.png``; None where it is not kept."""
        try:
            return self.read(record, name)
        except OSError:
            return None


def from_folders(*, results: Path | None = None, outputs: Path | None = None) -> Collection:
    """The committed runs below ``results`` and those that work in ``outputs``; of a run in both, the latter.

    Raises ZeroQError where there is no record.
    """
    origins: list[Source] = [KeptRuns(results)] if results else []
    origins += [RunFolders(outputs / "runs")] if outputs else []
    found: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for source in origins:
        contents = source.contents()
        found |= contents
        sources |= dict.fromkeys(contents, source)
    if not found:
        where = " and ".join(str(folder / "runs") for folder in (results, outputs) if folder)
        raise ZeroQError(f"there are no records in {where}; make some with `python -m experiments.run`")
    return collection(found, sources)


def collection(found: Mapping[str, Any], sources: Mapping[str, Source] | None = None) -> Collection:
    """What is usable of contents by run name (an exception where one could not be read).

    Raises ZeroQError where nothing is.
    """
    records, omissions = [], []
    for run, content in sorted(found.items()):
        if reason := validation_error(content):
            known = content if isinstance(content, dict) else {}
            words = (known[key] if isinstance(known.get(key), str) else None for key in ("model", "dataset"))
            omissions.append(Omission(run, reason, *words))
        else:
            records.append({"run": run, **content})
    for check in (of_one_origin, of_different_cells):
        records, more = check(records)
        omissions += more
    if not records:
        raise ZeroQError(f"no record is usable, for example: {omissions[0]}")
    return Collection(records, omissions, sources or {})


def of_one_origin(records: list[dict]) -> tuple[list[dict], list[Omission]]:
    """Leave out what stems from other weights, or was scored on another test set, than most records of its network."""
    groups = defaultdict(list)
    for record in records:
        # A checkpoint that was asked for shows in the row's settings.
        own = tuple(record["settings"].get(key, "") for key in ("model.checkpoint", "model.architecture", "data"))
        groups[record["model"], own].append(record)
    reasons = {}
    for (model, _), group in groups.items():
        origins = Counter((record["network"], record["data_digest"]) for record in group)
        (network, data), most = origins.most_common(1)[0]
        if list(origins.values()).count(most) > 1:
            for record in group:
                reasons[record["run"]] = f"as many records of {model} are of other weights or test images"
            continue
        usual = [record for record in group if (record["network"], record["data_digest"]) == (network, data)]
        typical = median(record["fp32_value"] for record in usual)
        for record in group:
            if record["network"] != network:
                reasons[record["run"]] = f"other weights than most records of {model}"
            elif record["data_digest"] != data:
                reasons[record["run"]] = f"other test images than most records of {model}"
            # So does other preprocessing, in what the float network makes of them.
            elif not same_score(record["fp32_value"], typical, record["metric"]):
                reasons[record["run"]] = (
                    f"the float network scores {record['fp32_value']} there, {typical} in most records of {model}"
                )
    return without(records, reasons)


def same_score(one: float, other: float, metric: str) -> bool:
    """Whether two scores may be one network's on one test set; records have four digits, and so has the distance."""
    return round(abs(one - other), 4) <= SAME_SCORE[metric]


def of_different_cells(records: list[dict]) -> tuple[list[dict], list[Omission]]:
    """Of several records of one run, keep the last where they agree, and none where they do not.

    A method without sensitivities makes uniform runs of mixed settings (``w4a8`` comes after ``mp4a8``), and one
    without images the same run of every seed, of which the lowest is kept.
    """
    cells = defaultdict(list)
    for record in records:
        cells[cell(record)].append(record)
    kept, reasons = [], {}
    for group in cells.values():
        values = [record["value"] for record in group]
        if same_score(max(values), min(values), group[0]["metric"]):
            kept.append(min(reversed(group), key=lambda record: record["seed"]))
            continue
        for record in group:
            others = " and ".join(other["run"] for other in group if other is not record)
            reasons[record["run"]] = f"{record['value']}, but {others}, of the same run, disagrees"
    return sorted(kept, key=lambda record: record["run"]), without(records, reasons)[1]


def cell(record: dict) -> tuple:
    """What tells one run from another."""
    words = ("model", "dataset", "method", "w_bits", "a_bits", "placement", "granularity")
    settings = extra_settings(record)
    # Without calibration images, on which both are measured, a seed changes nothing.
    drawn = record["calibration_loss"] is not None or record["divergence"] is not None
    return *(record[word] for word in words), record["seed"] if drawn else None, *sorted(settings.items())


def without(records: list[dict], reasons: Mapping[str, str]) -> tuple[list[dict], list[Omission]]:
    """The records that have no reason to be left out, and the others with theirs."""
    kept = [record for record in records if record["run"] not in reasons]
    return kept, [Omission.of(record, reasons[record["run"]]) for record in records if record["run"] in reasons]
