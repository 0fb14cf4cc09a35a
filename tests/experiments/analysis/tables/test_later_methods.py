"""Methods after the paper, beside runs on the same network."""

import json

import pytest

from experiments.analysis.cell import Table
from experiments.analysis.collection import from_folders
from experiments.analysis.tables import tables
from tests.experiments.analysis.records import record, tables_of, whole, without_run

NAME = "later_methods"
RESNET18 = {"model": "imagenet/resnet18", "dataset": "imagenet", "fp32_value": 71.4}
RESNET20 = {"model": "pytorchcv/resnet20_cifar10", "dataset": "cifar10", "fp32_value": 93.9}


@pytest.fixture
def outputs(tmp_path):
    """A folder with made-up runs of the paper's ResNet18 and of CIFAR-10's ResNet20, at 4 bits and others."""
    for seed in (0, 1):
        write(tmp_path, f"r18-plus-{seed}", **RESNET18, method="zeroq+", value=66.0 + seed, seed=seed)
    write(tmp_path, "r18-zeroq", **RESNET18, method="zeroq", value=30.0)
    write(tmp_path, "r18-real", **RESNET18, method="real", value=31.0, needs_data=True)
    write(tmp_path, "r18-mixed", **RESNET18, method="zeroq", w_bits="MP4", a_bits=8, value=65.0)
    write(tmp_path, "r18-other", **RESNET18, method="zeroq", value=29.0, settings={"percentile": "99"})
    write(tmp_path, "r20", **RESNET20, method="zeroq", value=80.0, settings={"model.name": "resnet20_cifar10"})
    return tmp_path


def write(folder, run: str, **changes) -> None:
    at_four_bits = {"w_bits": "4", "a_bits": 4, "network": changes["model"]}
    content = whole(run, **at_four_bits | changes)
    (folder / "runs" / run).mkdir(parents=True)
    (folder / "runs" / run / "record.json").write_text(json.dumps(without_run(content)))


def row(table: Table, network: str, bits: str, method: str) -> dict[str, str]:
    frame = table.frame
    (found,) = frame[(frame.Network == network) & (frame.Bits == bits) & (frame.Method == method)].to_dict("records")
    return found


def test_runs_stand_beside_what_was_reported_of_the_same_network(outputs):
    collection = from_folders(outputs=outputs)
    assert collection.omissions == []
    table = tables(collection)[NAME]
    ours = row(table, "imagenet/resnet18", "W4/A4", "ZeroQ+")
    assert (ours["No D"], ours["No FT"]) == ("yes", "yes")
    assert (ours["FP32"], ours["Measured"]) == ("71.40", "66.50 ± 0.71 (2)")
    assert (ours["Reported FP32"], ours["Reported"], ours["Sources"]) == ("–", "–", "–")
    assert ours["Measured"].runs == ("r18-plus-0", "r18-plus-1")
    genie = row(table, "imagenet/resnet18", "W4/A4", "GENIE")
    assert (genie["Measured"], genie["Reported"], genie["No FT"]) == ("–", "69.66", "yes")
    cifar = row(table, "pytorchcv/resnet20_cifar10", "W4/A4", "ZeroQ")
    assert (cifar["Measured"], cifar["Reported"]) == ("80.00", "79.30")
    assert row(table, "imagenet/resnet18", "W4/A4", "Real data*")["No D"] == "no"
    assert any(note.startswith("Measured with") for note in table.notes)


def test_only_runs_with_default_settings_at_reported_bits_are_compared(outputs):
    frame = tables(from_folders(outputs=outputs))[NAME].frame
    assert set(frame[frame.Measured != "–"].Bits) == {"W4/A4"}
    assert not frame.Measured.str.startswith("29.00").any()


def test_a_method_that_was_measured_and_reported_has_one_row_with_every_source(outputs):
    table = tables(from_folders(outputs=outputs))[NAME]
    both = row(table, "imagenet/resnet18", "W4/A4", "ZeroQ")
    assert (both["Measured"], both["Reported"]) == ("30.00", "19.09 to 24.16")
    scores = dict(part.split(": ") for part in both["Sources"].split("; "))
    assert list(scores) == ["19.09", "21.79", "22.58", "24.16"]
    (place,) = [note for note in table.notes if note.startswith(f"Source {scores['24.16']}: ")]
    assert "ricky40403/GDFQ README" in place


def test_sources_that_agree_stand_without_their_score():
    table = tables_of([record(**RESNET18)])[NAME]
    qimera = row(table, "imagenet/resnet18", "W4/A4", "Qimera")
    places = [
        next(n for n in table.notes if n.startswith(f"Source {number}: ")) for number in qimera["Sources"].split(", ")
    ]
    assert [any(word in place for place in places) for word in ("AIT", "SynQ", "qimera README")] == [True] * 3
    assert qimera["Reported"] == "63.84"


def test_runs_of_other_data_sets_need_no_such_table():
    assert NAME not in tables_of([record()])


def test_files_keep_their_cells_apart(outputs, tmp_path):
    tables(from_folders(outputs=outputs))[NAME].write(tmp_path / NAME)
    markdown = [line for line in (tmp_path / f"{NAME}.md").read_text().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in markdown}) == 1
    latex = [line for line in (tmp_path / f"{NAME}.tex").read_text().splitlines() if line.endswith(r"\\")]
    assert len({line.count("&") for line in latex}) == 1
