"""What is committed of runs fits together: every line is a record, every hash is right, and nothing lies about."""

import json
from pathlib import Path

from experiments.analysis.collection import from_folders
from experiments.collect import shown_pictures
from experiments.core.record import validation_error
from experiments.core.results import PICTURES, TABLES, KeptRuns, network_file, numbered_lines, picture_name, sha256
from tests.paths import RESULTS

KEPT = KeptRuns(RESULTS)
SEARCHES = {"bits.refine", "frontier"}  # whose plans need not lie on the frontier
MOST_FILES, MOST_BYTES = 700, 20_000_000


def test_every_line_is_a_record_in_its_place():
    assert len(KEPT.lines) == 1442
    for run, content in KEPT.contents().items():
        assert validation_error(content) is None, run
    for path in (RESULTS / "runs").iterdir():
        lines = [line for _, line in numbered_lines(path)]
        assert [line["run"] for line in lines] == sorted(line["run"] for line in lines)
        assert {network_file(line) for line in lines} == {path.stem}
    assert KEPT.parameters.keys() == {line["network"] for line in KEPT.lines.values()}


def test_every_table_has_its_hash_and_a_run():
    named = {
        (network_file(line), name, line["files"][name])
        for line in KEPT.lines.values()
        for name in TABLES
        if name in line["files"]
    }
    kept = []
    for path in (RESULTS / "stages").iterdir():
        for _, line in numbered_lines(path):
            assert line["sha256"] == sha256(line["text"].encode())
            kept.append((path.stem, line["name"], line["sha256"]))
    assert len(kept) == len(set(kept))
    assert set(kept) == named


def test_every_picture_has_its_hash_and_a_figure():
    shown = {KEPT.lines[run]["files"].get(name) for run, name in shown_pictures(KEPT.contents())} - {None}
    pictures = {path.name: sha256(path.read_bytes()) for path in (RESULTS / "pictures").iterdir()}
    assert pictures == {picture_name(digest): digest for digest in shown}
    assert {name for line in KEPT.lines.values() for name in line["files"]} == {*TABLES, *PICTURES}


def test_the_chosen_plan_lies_on_the_frontier():
    """Of one run a network, for the sake of time."""
    collection = from_folders(results=RESULTS)
    mixed = {
        record["model"]: record
        for record in collection.records
        if record["method"] == "zeroq" and record["w_bits"] == "MP4" and not SEARCHES & record["settings"].keys()
    }
    assert len(mixed) == 9
    for record in mixed.values():
        size = sum(record["parameters"][name] * bits for name, bits in record["plan"].items())
        omega = collection.sensitivity(record)
        frontier = collection.frontier(record).set_index("size_bits").sensitivity
        cost = sum(omega.loc[name, bits] for name, bits in record["plan"].items())
        assert abs(frontier[size] - cost) <= 1e-9 * max(cost, 1e-9)


def test_what_is_committed_stays_small():
    files = [path for path in RESULTS.rglob("*") if path.is_file() and path.name != ".lock"]
    assert len(files) <= MOST_FILES
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert json.loads((RESULTS / "networks.json").read_text()).keys() == KEPT.parameters.keys()


def test_no_line_holds_a_path_of_a_machine():
    """Data lie in a folder of the clone; where a run found them elsewhere says nothing of what it did."""
    roots = {Path(line["config"]["data"]["root"]) for line in KEPT.lines.values()}
    assert not [root for root in roots if root.is_absolute()]
