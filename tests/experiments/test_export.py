"""`python -m experiments.export`: the file, and what the record says of it."""

import json
import shutil
import sys

import onnx
import pytest

from experiments import export
from experiments.analysis.tables.deployment import deployment_table
from experiments.analysis.tables.placements import placement_table
from experiments.core.record import read_record, validation_error


@pytest.fixture(scope="module")
def exported(outputs, tmp_path_factory):
    """A run's folder name, made once."""
    return outputs / "runs" / "fashion-resnet18,gaussian,mp4a8,seed=0,placement=integer"


@pytest.fixture
def export_command(monkeypatch):
    """Call the program; its exit status or message."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["export", *map(str, arguments)])
        try:
            export.main()
        except SystemExit as ended:
            return ended.code
        return 0

    return call


def test_a_run_is_exported_and_scored(command, export_command, exported, capsys):
    words = ("model=fashion/resnet18", "method=gaussian", "bits=mp4a8", "placement=integer", "distill.count=8")
    assert command(*words, "tracker=disabled") == 0
    (folder,) = exported.parent.glob("*placement=integer*")
    before = read_record(folder)
    assert export_command(f"run={folder}") == 0
    said = capsys.readouterr().out
    assert "20 of 20 convolutions run as integers" in said
    record = read_record(folder)
    assert {key: record[key] for key in before} == before
    found = record["deployment"]
    assert found["simulated_value"] == record["value"]
    assert abs(record["deployed_value"] - record["value"]) <= 0.1
    assert found["agreement"] >= 0.995
    size = (folder / "quantized.onnx").stat().st_size / 2**20
    assert record["deployed_mib"] == size
    assert found["weights_mib"] + found["parameters_mib"] + found["graph_mib"] == pytest.approx(size, rel=0.01)
    plan, parameters = record["plan"], record["parameters"]
    assert found["planned_weights_mib"] * 2**23 == sum(plan[name] * parameters[name] for name in plan)
    assert found["weights_mib"] == found["planned_weights_mib"]  # of 2, 4 and 8 bits
    assert set(found["latency_ms"]) >= {"1 threads"}
    metadata = {each.key: each.value for each in onnx.load(folder / "quantized.onnx").metadata_props}
    assert json.loads(metadata["zeroq.plan"]) == plan
    assert metadata["zeroq.run"] == folder.name
    assert metadata["zeroq.method"] == "gaussian"

    table = deployment_table([record])
    assert list(table["Integer convolutions"]) == ["20 of 20"]
    assert placement_table([record]).empty  # not every placement was run

    damaged = exported.parent / "damaged"
    shutil.copytree(folder, damaged)
    content = json.loads((damaged / "record.json").read_text())
    (damaged / "record.json").write_text(json.dumps(content | {"network": "another"}))
    assert "made with other weights" in export_command(f"run={damaged}")
    (damaged / "record.json").write_text(json.dumps(content | {"plan": dict.fromkeys(plan, 4)}))
    assert "has another plan" in export_command(f"run={damaged}")
    (damaged / "config.yaml").unlink()
    assert "cannot be read" in export_command(f"run={damaged}")
    assert 'has "a" for deployed_mib' in validation_error(content | {"deployed_mib": "a"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name the run"),
        (("rum=a",), "unknown argument 'rum'"),
        (("run=",), "unknown argument 'run'"),
        (("run=missing",), "there is no run missing in results"),
        (("run=outputs/runs/missing",), "cannot be used"),
    ],
)
def test_bad_arguments(export_command, arguments, said):
    assert said in export_command(*arguments)


def test_placements_stand_side_by_side():
    record = {
        "run": "a",
        "model": "fashion/resnet18",
        "method": "zeroq",
        "w_bits": "8",
        "a_bits": 8,
        "seed": 0,
        "settings": {"distill": "fast"},
        "granularity": "per_channel",
        "metric": "top1",
        "fp32_value": 92.0,
    }
    values = {"layer_inputs": 91.5, "after_relu": 91.75, "integer": 91.25}
    records = [record | {"placement": placement, "value": value} for placement, value in values.items()]
    (row,) = placement_table(records).to_dict("records")
    assert row == {
        "Network": "fashion/resnet18",
        "Bits": "W8/A8",
        "Method": "ZeroQ, fast",
        "Seeds": "1",
        "FP32": "92.00",
        "Layer inputs": "91.50",
        "After ReLU": "91.75",
        "Integer": "91.25",
    }
