"""The command line, in this process: records, skipping, sweeps, W&B, and one sentence for each mistake."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas
import pytest
import torch
import yaml

from experiments import figures, record, run, runner, sources, tables
from experiments.cache import StageCache
from zeroq.evaluation import classification
from zeroq.networks import zoo
from zeroq.networks.pretrained import PretrainedNetwork

QUICK = ["distill.iterations=2", "distill.count=2"]
RECORD_KEYS = {
    *("model", "dataset", "method", "w_bits", "a_bits", "placement", "granularity", "size_mib", "fp32_size_mib"),
    *("metric", "value", "fp32_value", "top5", "agreement", "seed", "plan", "distill_loss", "seconds", "needs_data"),
    *("versions", "device", "git_commit"),
}


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Path:
    """One results folder for all tests, so that they share the FP32 score."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture
def command(monkeypatch, results):
    """Run the command line with arguments; returns its exit status or message."""

    def call(*arguments: str):
        flags = [argument for argument in arguments if argument.startswith("-")]
        overrides = [argument for argument in arguments if not argument.startswith("-")]
        monkeypatch.setattr(sys, "argv", ["run", *flags, f"results={results}", *overrides])
        try:
            run.main()
        except SystemExit as ended:
            return ended.code
        return 0

    return call


def only_runs(results: Path) -> set[str]:
    runs = results / "runs"
    return {path.name for path in runs.iterdir()} if runs.exists() else set()


def test_record_is_complete_and_skipped_the_second_time(command, results, capsys):
    assert command("method=zeroq", "bits=mp4a8", *QUICK) == 0
    folder = results / "runs" / "fashion-resnet18,zeroq,mp4a8,seed=0,distill.count=2,distill.iterations=2"
    content = json.loads((folder / "record.json").read_text())
    assert set(content) >= RECORD_KEYS
    assert set(content["seconds"]) == {"distill", "sensitivity", "allocate", "calibrate", "evaluate"}
    assert content["w_bits"] == "MP4"
    assert content["a_bits"] == 8
    assert content["metric"] == "top1"
    assert content["weight_layers"] == content["quantized_weight_layers"] == content["quantized_activations"] == 21
    assert content["unreached_activations"] == []
    assert content["mean_weight_bits"] <= 4
    card = json.loads((zoo.WEIGHTS / "resnet18.json").read_text())
    assert content["fp32_value"] == pytest.approx(card["top1"], abs=0.05)
    assert json.loads((folder / "plan.json").read_text()) == content["plan"]
    assert len(pandas.read_csv(folder / "sensitivity.csv")) == 21
    frontier = pandas.read_csv(folder / "frontier.csv")
    assert frontier.size_bits.is_monotonic_increasing
    assert frontier.sensitivity.is_monotonic_decreasing
    assert len(pandas.read_csv(folder / "distill_loss.csv")) == 2
    assert (folder / "distilled.png").stat().st_size > 0
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["bits"]["candidates"] == [2, 4, 8]
    assert settings["results"] == str(results)

    capsys.readouterr()
    written = (folder / "record.json").stat().st_mtime_ns
    assert command("bits=mp4a8", "method=zeroq", "seed=0", *reversed(QUICK)) == 0
    assert "skipped" in capsys.readouterr().out
    assert (folder / "record.json").stat().st_mtime_ns == written


def test_wandb_offline_run_holds_config_and_numbers(command, results):
    assert command("method=gaussian", "bits=w8a8", *QUICK) == 0
    (folder,) = (results / "runs").glob("fashion-resnet18,gaussian,w8a8*")
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
    assert str(content["size_mib"])[:8] in shown
    for table in ("sensitivity", "frontier", "calibration_images"):
        assert table in shown


def test_a_data_set_s_own_images_are_in_no_record(command, results):
    assert command("-m", "method=gaussian,real", "bits=w8a8", "tracker=disabled", *QUICK) == 0
    pictures = {path.parent.name.split(",")[1] for path in (results / "runs").glob("*,w8a8,*/calibration.png")}
    assert pictures == {"gaussian"}


def test_sweep_runs_every_combination_and_naive_needs_no_images(command, results, capsys):
    before = only_runs(results)
    sweep = ("-m", "method=naive", "bits=w8a8,mp4a8", "tracker=disabled")
    assert command(*sweep) == 0
    assert only_runs(results) - before == {
        "fashion-resnet18,naive,w8a8,seed=0",
        "fashion-resnet18,naive,mp4a8,seed=0",
    }
    content = json.loads((results / "runs/fashion-resnet18,naive,mp4a8,seed=0/record.json").read_text())
    assert set(content["plan"].values()) == {4}
    assert content["w_bits"] == "4"  # uniform, whatever the setting's name
    assert content["granularity"] == "per_tensor"
    capsys.readouterr()
    assert command(*sweep) == 0
    assert capsys.readouterr().out.count("skipped") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model=fashion/resnet81"], "there is no model=fashion/resnet81; did you mean fashion/resnet18"),
        (["method=zero"], "there is no method=zero"),
        (["bits=w9a9"], "there is no bits=w9a9"),
        (["bits.weight=1"], "bits must be 2…8"),
        (["bits.activation=9"], "bits must be 2…8"),
        (["bits=mp4a8", "bits.weight=1.5", *QUICK], "below the smallest candidate"),
        (["bits=mp4a8", "bits.size_mib=0.01", *QUICK], "below the smallest candidate"),
        (["bits.weight=four"], "bits.weight"),
        (["~bits.refine"], "bits.refine is missing"),
        (["seed=-1"], "seed must be"),
        (["distill.statistics=both", "method=gaussian"], "statistics must be one of"),
        (["percentile=40", *QUICK], "percentile must be above 50"),
        (["sensitivity_direction=sideways", *QUICK], "direction must be one of"),
        (["bits=mp4a8", "bits.refine=-1", *QUICK], "refine is a number of plans"),
        (["method=real", "distill.count=0"], "count must be at least 1"),
        (["tracker=online"], "log in with `wandb login`"),
        (["data.root=/proc/nowhere"], "cannot create /proc/nowhere"),
        (["results=/proc/nowhere"], "cannot write records to /proc/nowhere"),
        (["distill.learning_rate=1e30", "distill.iterations=40", "distill.count=2"], "smaller learning rate"),
        (["model=imagenet/resnet18", "data.root=/tmp", "model.architecture=vgg"], "ImageNet has no 'vgg'"),
        (["model=imagenet/resnet18", "data.root=/nowhere"], "/nowhere is no folder; give the one that holds your copy"),
        (["tracker.mode=loud"], "tracker.mode must be one of"),
        (["placement=everywhere"], "placement must be one of"),
        (["bits.candidates=[1]"], "candidate bits must be a list of widths in 2…8"),
        (["method=naive", "bits=mp4a8", "bits.size_mib=0.1"], "cannot keep a budget in MiB"),
        (["model=imagenet/resnet18"], "data.root is missing"),
        (["bits.weight=nan"], "bits must be 2…8"),
        (["device=toaster"], "device 'toaster' cannot be used"),
    ],
)
def test_mistakes_get_one_sentence_and_leave_nothing(command, results, capsys, arguments, sentence):
    before = only_runs(results)
    code = command(*arguments)
    assert code not in (0, None)
    printed = capsys.readouterr().out + str(code)
    assert sentence in printed.replace("\n", " ")
    assert "Traceback" not in printed
    assert only_runs(results) == before


def test_a_mistake_in_a_sweep_does_not_stop_it(command, results, capsys):
    assert command("-m", "method=naive", "bits.activation=9,7", "tracker=disabled") == 1
    printed = capsys.readouterr()
    assert "bits must be 2…8" in printed.out
    assert "Traceback" not in printed.out + printed.err
    assert (results / "runs" / "fashion-resnet18,naive,w8a8,seed=0,bits.activation=7").exists()


def test_wrong_settings_are_refused_before_any_work(command, capsys, monkeypatch):
    monkeypatch.setattr(runner.Run, "calibration_images", lambda run: pytest.fail("work was begun"))
    assert command("bits=mp4a8", "bits.weight=1.5") == 1
    assert command("percentile=40") == 1
    assert "below the smallest candidate" in capsys.readouterr().out


def test_budget_in_mib_is_labelled_with_its_mean_bits(command, results):
    assert command("method=gaussian", "bits=mp4a8", "bits.size_mib=0.4", "tracker=disabled", *QUICK) == 0
    (folder,) = (results / "runs").glob("fashion-resnet18,gaussian,mp4a8*bits.size_mib=0.4*")
    content = json.loads((folder / "record.json").read_text())
    assert content["size_mib"] <= 0.4
    assert content["mean_weight_bits"] <= float(content["w_bits"].removeprefix("MP")) <= 32 * 0.4 / 2.6


@pytest.fixture
def quick_scores(monkeypatch):
    """Scores without scoring, where only the stages before matter."""
    predictions = torch.zeros(10_000, dtype=torch.long)
    score = classification.Classification(10.0, 50.0, predictions)
    monkeypatch.setattr(classification, "evaluate", lambda *arguments: score)


@pytest.mark.parametrize(
    ("stage", "arguments"),
    [
        ("distill", ["seed=1"]),
        ("distill", ["distill.iterations=1"]),
        ("distill", ["distill.learning_rate=0.1"]),
        ("distill", ["distill.statistics=batch"]),
        ("sensitivity", ["sensitivity_direction=symmetric"]),
        ("sensitivity", ["symmetric=true"]),
        ("sensitivity", ["method.per_channel=false"]),
        ("sensitivity", ["bits.candidates=[3,8]"]),
    ],
)
def test_stages_are_shared_only_between_equal_settings(command, results, quick_scores, stage, arguments):
    shared = ("model=fashion/resnet18", "method=zeroq", "tracker=disabled", "force=true")
    quick = [setting for setting in QUICK if setting.partition("=")[0] not in "".join(arguments)]

    def stored() -> int:
        return len(list((results / "cache").glob(f"{stage}-*.pt")))

    assert command(*shared, *QUICK) == 0
    before = stored()
    assert command(*shared, *QUICK, "bits=w4a8") == 0
    assert stored() == before
    assert command(*shared, *quick, *arguments) == 0
    assert stored() == before + 1


def test_a_damaged_cache_file_is_computed_again(tmp_path):
    stages = StageCache(tmp_path)
    assert stages.get({"stage": "x"}, lambda: 1)[0] == 1
    assert stages.get({"stage": "x"}, lambda: 2)[0] == 1
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert stages.get({"stage": "x"}, lambda: 3)[0] == 3
    assert stages.get({"stage": "x"}, lambda: 4)[0] == 3


def test_force_runs_again(command, results, capsys, quick_scores):
    arguments = ("method=naive", "bits=w5a8", "tracker=disabled")
    assert command(*arguments) == 0
    path = results / "runs" / "fashion-resnet18,naive,w5a8,seed=0" / "record.json"
    written = path.stat().st_mtime_ns
    assert command(*arguments, "force=true") == 0
    assert "skipped" not in capsys.readouterr().out
    assert path.stat().st_mtime_ns > written


@pytest.mark.parametrize(
    ("key", "sentence"), [("network", "made with other weights"), ("images", "other number of test images")]
)
def test_a_record_of_other_inputs_is_no_reason_to_skip(command, results, capsys, quick_scores, key, sentence):
    arguments = ("method=naive", "bits=w4a8", "bits.weight=3", "tracker=disabled")
    assert command(*arguments, "force=true") == 0
    path = results / "runs" / "fashion-resnet18,naive,w4a8,seed=0,bits.weight=3" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 0}))
    assert command(*arguments) == 1
    assert sentence in capsys.readouterr().out
    path.write_text("{")
    assert command(*arguments) == 1
    assert "is damaged" in capsys.readouterr().out
    shutil.rmtree(path.parent)


def test_network_without_batch_norm(command, capsys, monkeypatch, no_norm, quick_scores):
    flat = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), *no_norm, torch.nn.Linear(5, 10))
    network = PretrainedNetwork(flat, zoo.input_specification("resnet18"))
    monkeypatch.setitem(sources.NETWORKS, "embedded", lambda architecture, checkpoint: network)
    shared = ("model.name=test/no-norm", "tracker=disabled", *QUICK)
    assert command(*shared, "method=zeroq") == 1
    assert "no BatchNorm layer" in capsys.readouterr().out.replace("\n", " ")
    assert command(*shared, "method=gaussian") == 0


def test_truncated_data_and_changed_weights(command, results, capsys, monkeypatch, tmp_path):
    before = only_runs(results)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"0" * 1000)
    assert command("bits=w6a6", f"data.root={tmp_path}") == 1
    assert "truncated or damaged" in capsys.readouterr().out.replace("\n", " ")
    for suffix in ("safetensors", "json"):
        (tmp_path / f"resnet18.{suffix}").write_bytes((zoo.WEIGHTS / f"resnet18.{suffix}").read_bytes())
    (tmp_path / "resnet18.safetensors").write_bytes(b"0" * 1000)
    monkeypatch.setitem(
        sources.NETWORKS, "embedded", lambda architecture, checkpoint: zoo.load(architecture, weights=tmp_path)
    )
    assert command("bits=w6a6") == 1
    assert "has sha256" in capsys.readouterr().out
    assert only_runs(results) == before


def test_tables_and_figures_of_the_runs(results, command, monkeypatch, capsys):
    assert command("method=zeroq,gaussian", "-m", "bits=mp4a8", *QUICK) == 0
    for program in (tables, figures):
        monkeypatch.setattr(sys, "argv", [program.__name__, f"results={results}"])
        program.main()
    printed = capsys.readouterr().out
    assert "Top-1 accuracy (%)" in printed
    assert {path.name for path in (results / "tables").iterdir()} == {
        f"{name}.{suffix}" for name in ("top1-fashion-mnist", "batch_norm_loss") for suffix in ("md", "tex", "csv")
    }
    drawn = {path.name.rpartition("-fashion")[2] for path in (results / "figures").glob("*.png")}
    title = "fashion-resnet18-distill.count=2-distill.iterations=2"
    for name in ("images", "sensitivity", "frontier-mp4a8", "bits-mp4a8"):
        assert f"{title}-{name}.png" in drawn
        assert plt.imread(results / "figures" / f"{title}-{name}.png").std() > 0


def test_no_records_is_said(tmp_path, monkeypatch):
    for program in (tables, figures):
        monkeypatch.setattr(sys, "argv", [program.__name__, f"results={tmp_path}"])
        with pytest.raises(SystemExit, match="there are no records"):
            program.main()


def test_half_written_folder_is_no_record(tmp_path):
    (tmp_path / ".partial-killed").mkdir()
    (tmp_path / ".partial-killed" / "record.json").write_text("{}")
    with pytest.raises(record.ZeroQError, match="no records"):
        record.read_records(tmp_path)


def test_force_replaces_the_record(tmp_path):
    for content in ("first", "second"):
        with record.record_folder(tmp_path, "name") as folder:
            (folder / "record.json").write_text(content)
    assert [path.name for path in tmp_path.iterdir()] == ["name"]
    assert (tmp_path / "name" / "record.json").read_text() == "second"


def test_interrupt_leaves_nothing(command, results, monkeypatch):
    before = only_runs(results)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "write_files", interrupted)
    assert "interrupted" in command("method=naive", "bits=w6a6")
    assert only_runs(results) == before


def test_failed_write_leaves_nothing(tmp_path):
    def write_half():
        with record.record_folder(tmp_path, "name") as folder:
            (folder / "record.json").write_text("{")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_changed_weight_file_is_refused(tmp_path):
    for suffix in ("safetensors", "json"):
        (tmp_path / f"resnet18.{suffix}").write_bytes((zoo.WEIGHTS / f"resnet18.{suffix}").read_bytes())
    path = tmp_path / "resnet18.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(zoo.ZeroQError, match="sha256"):
        zoo.load("resnet18", weights=tmp_path)


def test_weights_of_another_topology_are_refused(monkeypatch):
    monkeypatch.setitem(zoo.CLASSIFIERS, "resnet18", zoo.Embedded(4, ()))
    with pytest.raises(zoo.ZeroQError, match="topology"):
        zoo.load("resnet18")


def test_names_do_not_depend_on_order_or_defaults():
    choices = {"model": "fashion/resnet18", "method": "zeroq", "bits": "w8a8", "distill": "paper"}

    def name(*overrides: str) -> str:
        return record.run_name(choices, record.other_settings(choices, list(overrides)), 0)

    plain = name()
    assert plain == name("seed=0", "distill=paper", "force=true", "data.root=/x")
    assert name("percentile=99", "placement=after_relu") == name("placement=after_relu", "percentile=99") != plain
    assert "/" not in plain


def test_fingerprint_sees_one_changed_weight():
    from experiments.cache import fingerprint

    network = torch.nn.Linear(3, 3)
    before = fingerprint(network)
    with torch.no_grad():
        network.weight[0, 0] += 1
    assert fingerprint(network) != before
