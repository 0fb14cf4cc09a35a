"""Runs with another plan than of sizes, exactly, for weights alone: their records say so, and no others do."""

import json

import pandas
import pytest

from experiments.analysis.labels import bits_label, bits_order
from experiments.core import once
from experiments.core.record import validation_error
from zeroq.modules import channels_last
from zeroq.networks import zoo
from zeroq.quantization.operations import bit_operations, multiply_accumulates

WORDS = ("model=fashion/resnet18", "distill.count=2", "distill.iterations=2", "tracker=disabled", "bits=mp4a8")
WORDS += ("sensitivity=estimated",)
NEW = {"activation_plan", "mean_activation_bits", "bops_share", "planned_ms", "grouped"}


@pytest.fixture
def record_of(command, outputs, quick_scores):
    def run(*words: str) -> dict:
        before = set((outputs / "runs").glob("*")) if (outputs / "runs").exists() else set()
        assert command(*WORDS, *words) == 0
        (folder,) = set((outputs / "runs").glob("*")) - before
        content = json.loads((folder / "record.json").read_text())
        assert validation_error(content) is None
        return content | {"folder": folder}

    return run


def test_a_plan_of_activations(record_of):
    plain = record_of()
    assert not NEW & plain.keys()
    assert (plain["a_bits"], type(plain["a_bits"]), bits_label(plain)) == (8, int, "MP4/A8")
    found = record_of("bits.mixed_activations=true", "bits.activation=6")
    assert (found["w_bits"], found["a_bits"], bits_label(found)) == ("MP4", "MP6", "MP4/AMP6")
    assert found["plan"] == plain["plan"]
    assert NEW & found.keys() == {"activation_plan", "mean_activation_bits"}
    assert found["mean_activation_bits"] <= 6
    assert found["activation_plan"].keys() == found["plan"].keys()
    table = pandas.read_csv(found["folder"] / "activation_sensitivity.csv", index_col=0)
    assert list(table.index) == list(found["activation_plan"])
    labels = ["MP4/AMP6", "MP4/A8", "W8/A8", "W8/AMP5.5", "MP4/A4"]
    assert sorted(labels, key=bits_order) == ["W8/A8", "W8/AMP5.5", "MP4/A8", "MP4/AMP6", "MP4/A4"]


def test_a_budget_of_bit_operations(record_of):
    found = record_of("bits.bops_share=0.4", "bits.mixed_activations=true")
    network = zoo.load("resnet18", None)
    with channels_last(network.module, network.input.shape):
        counts = multiply_accumulates(network.module, once.gaussian_images(network.input.shape, 1))
    bops = bit_operations(counts, found["plan"], found["activation_plan"]) / bit_operations(counts, 8, 8)
    assert found["bops_share"] == pytest.approx(bops)
    assert bops <= 0.4
    assert found["w_bits"].startswith("MP")
    assert float(found["w_bits"][2:]) == pytest.approx(found["mean_weight_bits"], abs=0.01)
    assert float(found["a_bits"][2:]) == pytest.approx(found["mean_activation_bits"], abs=0.01)
    assert found["settings"]["bits.bops_share"] == "0.4"


def test_a_grouped_search(record_of):
    plain, found = record_of("seed=2"), record_of("seed=2", "frontier=grouped")
    assert NEW & found.keys() == {"grouped"}
    assert found["settings"]["frontier"] == "grouped"
    omega = pandas.read_csv(found["folder"] / "sensitivity.csv", index_col=0).rename(columns=int)
    for name, record in (("sensitivity", found), ("exact_sensitivity", plain)):
        total = sum(omega.loc[layer, bits] for layer, bits in record["plan"].items())
        assert found["grouped"][name] == pytest.approx(total)
    assert found["mean_weight_bits"] <= 4


def test_a_budget_of_time(record_of, monkeypatch):
    layers = list(record_of("seed=1")["plan"])
    times = pandas.DataFrame(
        {8: [0.1] * len(layers), 32: [0.2] * len(layers)}, index=pandas.Index(layers, name="layer")
    )
    monkeypatch.setattr("zeroq.layer_times", lambda *arguments, **how: times, raising=False)
    found = record_of("bits.latency_ms=2.55", "placement=integer", "seed=1")
    floats = [name for name, bits in found["plan"].items() if bits == 32]
    assert len(floats) == 4  # 21 layers
    assert found["planned_ms"] == pytest.approx(2.5)
    assert set(found["plan"].values()) == {8, 32}
    assert found["a_bits"] == 8
    assert "activation_plan" not in found
    written = pandas.read_csv(found["folder"] / "layer_times.csv", index_col="layer").rename(columns=int)
    pandas.testing.assert_frame_equal(written, times)
