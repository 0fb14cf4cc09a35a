"""What the committed records must show."""

import json
from pathlib import Path

import pytest

from experiments.record import read_records
from zeroq.networks import zoo

RECORDS = read_records(Path(__file__).parents[1] / "results" / "runs")
ZEROQ_W8A8 = [r for r in RECORDS if r["method"] == "zeroq" and r["w_bits"] == "8" and r["a_bits"] == 8]
SMALLEST_TOP1 = {"resnet18": 92, "mobilenetv2": 91}


@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_zoo_is_good_enough(architecture):
    card = json.loads((zoo.WEIGHTS / f"{architecture}.json").read_text())
    assert card["top1"] >= SMALLEST_TOP1[architecture]
    scores = {record["fp32_value"] for record in RECORDS if record["model"] == f"fashion/{architecture}"}
    assert scores == {card["top1"]}


def test_every_network_has_its_record():
    assert {record["model"] for record in ZEROQ_W8A8} == {f"fashion/{name}" for name in zoo.ARCHITECTURES}


@pytest.mark.parametrize("record", ZEROQ_W8A8, ids=lambda record: record["run"])
def test_eight_bits_without_data_cost_at_most_half_a_point(record):
    assert record["value"] >= record["fp32_value"] - 0.5


@pytest.mark.parametrize("record", ZEROQ_W8A8, ids=lambda record: record["run"])
def test_distilled_images_match_the_statistics_twenty_times_better_than_noise(record):
    assert record["gaussian_loss"] / record["distill_loss"] >= 20


def test_nothing_stayed_float():
    for record in RECORDS:
        assert record["quantized_weight_layers"] == record["weight_layers"] == record["quantized_activations"]
        assert record["unreached_activations"] == []
