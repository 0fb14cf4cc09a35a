"""The command line, in this process: records, skipping, sweeps, W&B, tables and figures."""

import json
import shutil
import subprocess
import sys

import matplotlib.pyplot as plt
import pandas
import pytest
import yaml
from torch import nn

from experiments import figures, tables
from experiments.analysis.collection import from_folders
from experiments.core import content as run_content
from experiments.core import once, sources
from experiments.core.record import read_record
from tests.command_line import COUNT, QUICK, only_runs, quick
from tests.paths import DATA
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.evaluation.classification import evaluate
from zeroq.networks import zoo
from zeroq.networks.pretrained import PretrainedNetwork

RECORD_KEYS = {
    *("model", "dataset", "method", "w_bits", "a_bits", "placement", "granularity", "size_mib", "fp32_size_mib"),
    *("metric", "value", "fp32_value", "top5", "agreement", "seed", "plan", "distill_loss", "seconds", "needs_data"),
    *("versions", "device", "git_commit"),
}


def test_record_is_complete_and_skipped_the_second_time(command, outputs, capsys):
    assert command("method=zeroq", "bits=mp4a8", *QUICK) == 0
    folder = outputs / "runs" / "fashion-resnet18,zeroq,mp4a8,seed=0,distill.count=2,distill.iterations=2"
    content = json.loads((folder / "record.json").read_text())
    assert set(content) >= RECORD_KEYS
    assert set(content["seconds"]) == {"distill", "sensitivity", "allocate", "calibrate", "evaluate"}
    assert content["w_bits"] == "MP4"
    assert content["a_bits"] == 8
    assert content["metric"] == "top1"
    assert content["weight_layers"] == content["quantized_weight_layers"] == content["quantized_activations"] == 21
    assert content["unreached_activations"] == []
    assert content["mean_weight_bits"] <= 4
    network = zoo.load("resnet18")
    float_score = evaluate(network.module, FashionMNIST(DATA, network.input).batches())
    assert content["fp32_value"] == pytest.approx(float_score.top1, abs=0.05)
    assert len(pandas.read_csv(folder / "sensitivity.csv")) == 21
    frontier = from_folders(outputs=outputs).frontier(read_record(folder))
    assert frontier.size_bits.is_monotonic_increasing
    assert frontier.sensitivity.is_monotonic_decreasing
    assert len(pandas.read_csv(folder / "distill_loss.csv")) == 2
    assert (folder / "distilled.png").stat().st_size > 0
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["bits"]["candidates"] == [2, 4, 8]
    assert settings["outputs"] == str(outputs)

    capsys.readouterr()
    written = (folder / "record.json").stat().st_mtime_ns
    assert command("bits=mp4a8", "method=zeroq", "seed=0", *reversed(QUICK)) == 0
    assert "skipped" in capsys.readouterr().out
    assert (folder / "record.json").stat().st_mtime_ns == written


def test_wandb_offline_run_holds_config_and_numbers(command, outputs):
    assert command("method=gaussian", "bits=w8a8", *COUNT) == 0
    (folder,) = (outputs / "runs").glob("fashion-resnet18,gaussian,w8a8*")
    (offline,) = folder.glob("wandb/offline-run-*")
    shown = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(offline)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    content = json.loads((folder / "record.json").read_text())
    assert '"gaussian"' in shown
    assert "unreached_activations" in shown  # of the whole record, which tables from W&B read
    assert str(content["size_mib"])[:8] in shown
    for table in ("sensitivity", "frontier", "calibration_images"):
        assert table in shown


def test_only_data_that_may_be_passed_on_are_shown(command, outputs, monkeypatch):
    shared = ("tracker=disabled", *COUNT)
    assert command("method=real", "bits=w6a6", *shared) == 0
    assert len(list((outputs / "runs").glob("*,real,w6a6,*/calibration.png"))) == 1
    monkeypatch.setattr(run_content, "FREE_DATA", ())
    assert command("-m", "method=gaussian,real", "bits=w8a8", *shared) == 0
    pictures = {path.parent.name.split(",")[1] for path in (outputs / "runs").glob("*,w8a8,*/calibration.png")}
    assert pictures == {"gaussian"}


def test_sweep_runs_every_combination_and_naive_needs_no_images(command, outputs, capsys):
    before = only_runs(outputs)
    sweep = ("-m", "method=naive", "bits=w8a8,mp4a8", "tracker=disabled")
    assert command(*sweep) == 0
    assert only_runs(outputs) - before == {
        "fashion-resnet18,naive,w8a8,seed=0",
        "fashion-resnet18,naive,mp4a8,seed=0",
    }
    content = json.loads((outputs / "runs/fashion-resnet18,naive,mp4a8,seed=0/record.json").read_text())
    assert set(content["plan"].values()) == {4}
    assert content["w_bits"] == "4"  # uniform, whatever the setting's name
    assert content["granularity"] == "per_tensor"
    capsys.readouterr()
    assert command(*sweep) == 0
    assert capsys.readouterr().out.count("done before, skipped") == 2


@pytest.mark.parametrize(
    ("method", "granularity", "ranges"), [("dfq", "per_tensor", 0), ("zeroq+dfq", "per_channel", 21)]
)
def test_dfq_and_its_record(command, outputs, method, granularity, ranges):
    assert command(f"method={method}", "bits=w4a8", "tracker=disabled", *quick(method)) == 0
    (folder,) = (outputs / "runs").glob(f"fashion-resnet18,{method},w4a8*")
    content = json.loads((folder / "record.json").read_text())
    assert (content["method"], content["granularity"]) == (method, granularity)
    assert content["weight_layers"] == content["quantized_weight_layers"] == content["quantized_activations"] == 21
    assert content["unreached_activations"] == content["skipped_steps"] == []
    assert content["value"] > 80
    assert content["size_mib"] == pytest.approx(content["fp32_size_mib"] / 8)
    sensitivities = pandas.read_csv(folder / "sensitivity.csv") if ranges else []
    assert len(sensitivities) == ranges


@pytest.mark.parametrize(
    ("method", "granularity"), [("omse", "per_channel"), ("ocs", "per_tensor"), ("aciq", "per_channel")]
)
def test_the_other_baselines_and_their_records(command, outputs, method, granularity):
    assert command(f"method={method}", "bits=mp4a8", "tracker=disabled", "distill.iterations=2") == 0
    (folder,) = (outputs / "runs").glob(f"fashion-resnet18,{method},mp4a8*")
    content = json.loads((folder / "record.json").read_text())
    assert (content["w_bits"], content["granularity"]) == ("4", granularity)  # uniform
    assert content["weight_layers"] == content["quantized_weight_layers"] == content["quantized_activations"] == 21
    added = content["size_mib"] / content["fp32_size_mib"] * 8 - 1
    assert 0.01 < added < 0.05 if method == "ocs" else added == pytest.approx(0)
    assert not (folder / "sensitivity.csv").exists()


def test_skipped_steps_are_said(command, capsys, monkeypatch, no_norm):
    flat = nn.Sequential(nn.Conv2d(1, 3, 1), *no_norm, nn.Linear(5, 10))
    network = PretrainedNetwork(flat, zoo.input_specification("resnet18"))
    monkeypatch.setitem(sources.NETWORKS, "bundled", lambda architecture, checkpoint: network)
    assert command("model.name=test/no-norm", "tracker=disabled", "method=dfq") == 0
    assert "skipped BatchNorm folding: there is no BatchNorm" in capsys.readouterr().out


def test_budget_in_mib_is_labelled_with_its_mean_bits(command, outputs):
    assert command("method=gaussian", "bits=mp4a8", "bits.size_mib=0.4", "tracker=disabled", *COUNT) == 0
    (folder,) = (outputs / "runs").glob("fashion-resnet18,gaussian,mp4a8*bits.size_mib=0.4*")
    content = json.loads((folder / "record.json").read_text())
    assert content["size_mib"] <= 0.4
    assert content["mean_weight_bits"] <= float(content["w_bits"].removeprefix("MP")) <= 32 * 0.4 / 2.6


def test_force_runs_again(command, outputs, capsys, quick_scores):
    arguments = ("method=naive", "bits=w5a8", "tracker=disabled")
    assert command(*arguments) == 0
    path = outputs / "runs" / "fashion-resnet18,naive,w5a8,seed=0" / "record.json"
    written = path.stat().st_mtime_ns
    assert command(*arguments, "force=true") == 0
    assert "skipped" not in capsys.readouterr().out
    assert path.stat().st_mtime_ns > written


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [("network", "0", "made with other weights"), ("data_digest", "0", "other test images")],
)
def test_a_record_of_other_inputs_is_no_reason_to_skip(command, outputs, capsys, quick_scores, key, value, sentence):
    arguments = ("method=naive", "bits=w4a8", "bits.weight=3", "tracker=disabled")
    assert command(*arguments, "force=true") == 0
    path = outputs / "runs" / "fashion-resnet18,naive,w4a8,seed=0,bits.weight=3" / "record.json"
    path.write_text(json.dumps((done := json.loads(path.read_text())) | {key: value}))
    assert command(*arguments) == 1
    assert sentence in capsys.readouterr().out
    versions = {**done["versions"], "torch": "1.0"}
    path.write_text(json.dumps(done | {"versions": versions, "git_commit": 40 * "a"}))
    assert command(*arguments) == 0
    assert "done before (torch 1.0, commit aaaaaaa), skipped" in " ".join(capsys.readouterr().out.split())
    for damaged, reason in (("{", "damaged: "), ('{"schema": 0}', "schema 0, this program reads")):
        path.write_text(damaged)
        assert command(*arguments) == 1
        assert f"record.json cannot be used ({reason}" in capsys.readouterr().out
        assert command("-m", "--list", *arguments) == 0
        assert "left  fashion-resnet18" in capsys.readouterr().out
    shutil.rmtree(path.parent)


def test_tables_and_figures_of_the_runs(outputs, command, monkeypatch, capsys):
    assert command("method=zeroq,gaussian", "-m", "bits=mp4a8", *QUICK) == 0
    for program in (tables, figures):
        monkeypatch.setattr(sys, "argv", [program.__name__, f"outputs={outputs}"])
        program.main()
    printed = capsys.readouterr().out
    assert "Top-1 accuracy (%)" in printed
    names = {path.name for path in (outputs / "tables").glob("[!.]*")}
    for name in ("top1-fashion-mnist", "batch_norm_loss"):
        assert {f"{name}.{suffix}" for suffix in ("md", "tex", "csv")} <= names
    assert not any("imagenet" in name for name in names)  # nothing was measured there
    drawn = {path.name.rpartition("-fashion")[2] for path in (outputs / "figures").glob("*.png")}
    title = "fashion-resnet18-distill.count=2-distill.iterations=2"
    for name in ("images", "loss", "sensitivity", "frontier-mp4a8", "bits"):
        assert f"{title}-{name}.png" in drawn
        assert plt.imread(outputs / "figures" / f"{title}-{name}.png").std() > 0


def test_no_records_is_said(tmp_path, monkeypatch):
    for program in (tables, figures):
        monkeypatch.setattr(sys, "argv", [program.__name__, f"outputs={tmp_path}"])
        with pytest.raises(SystemExit, match="there are no records"):
            program.main()


def test_interrupt_leaves_nothing(command, outputs, monkeypatch):
    before = only_runs(outputs)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(once, "write_files", interrupted)
    assert "interrupted" in command("method=naive", "bits=w6a6")
    assert only_runs(outputs) == before


def test_names_hold_what_is_not_the_default_in_any_order(command, monkeypatch):
    names = []
    monkeypatch.setattr(once, "execute", lambda settings, name, others: names.append(name) or once.Skipped(""))

    def name(*overrides: str) -> str:
        assert command(*overrides) == 0
        return names.pop()

    plain = name()
    assert plain == "fashion-resnet18,zeroq,w8a8,seed=0"
    silent = ("force=true", "tracker=disabled", "data.root=/x", "device=cpu")
    defaults = ("seed=0", "distill=paper", "data=fashion_mnist", "placement=layer_inputs", "bits.candidates=[2,4,8]")
    assert plain == name(*silent, *defaults)
    assert name("distill=bounded", "distill.bounded=true") == f"{plain},distill=bounded"
    assert plain == name("distill.recipe=published")
    assert name("distill=fast", "distill.iterations=200") == f"{plain},distill=fast"
    assert name("distill=bounded", "distill.bounded=false") == f"{plain},distill=bounded,distill.bounded=false"
    several = name("percentile=99", "placement=after_relu")
    assert several == name("placement=after_relu", "percentile=99") == f"{plain},percentile=99.0,placement=after_relu"
    one, other = name("method.per_channel=False"), name("-m", "method.per_channel=false", "bits.candidates=[2, 4,8]")
    assert one == other == f"{plain},method.per_channel=false"
    own = name("model=timm", "model.name=resnet18.a1_in1k", "data.root=/x", "model.architecture=resnet18")
    assert own == "timm,zeroq,w8a8,seed=0,model.architecture=resnet18,model.name=resnet18.a1_in1k"
