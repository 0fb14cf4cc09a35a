"""What the committed weights and records must show."""

import json
from pathlib import Path

import pytest

from experiments.record import read_records
from zeroq.networks import zoo

RECORDS = read_records(Path(__file__).parents[1] / "results" / "runs")
ZEROQ_W8A8 = [r for r in RECORDS if r["method"] == "zeroq" and r["w_bits"] == "8" and r["a_bits"] == 8]
TRAINED = [architecture for architecture in zoo.ARCHITECTURES if (zoo.WEIGHTS / f"{architecture}.json").exists()]
SMALLEST_SCORE = dict.fromkeys(zoo.CLASSIFIERS, ("top1", 91))
SMALLEST_SCORE |= {"resnet18": ("top1", 92), "retinanet": ("map", 0.55)}
LARGEST_LOSS = {"top1": 0.5, "map": 0.01}  # points, and mean average precision as a share
WEIGHTS_BYTES = 20_000_000


def read_card(architecture: str) -> dict:
    return json.loads((zoo.WEIGHTS / f"{architecture}.json").read_text())


@pytest.mark.parametrize("architecture", TRAINED)
def test_zoo_is_good_enough(architecture):
    metric, smallest = SMALLEST_SCORE[architecture]
    card = read_card(architecture)
    assert card[metric] >= smallest
    assert {"command", "seconds", "device", "recipe"} <= card.keys()
    zoo.load(architecture)  # sha256 and topology are those of the card


def test_weights_fit_into_twenty_megabytes():
    assert sum(path.stat().st_size for path in zoo.WEIGHTS.glob("*.safetensors")) <= WEIGHTS_BYTES


@pytest.mark.parametrize("model", sorted({record["model"] for record in RECORDS}))
def test_every_record_s_fp32_value_is_the_card_s(model):
    scores = {record["fp32_value"] for record in RECORDS if record["model"] == model}
    assert len(scores) == 1
    scale, architecture = model.split("/")
    if scale == "fashion":
        assert scores == {read_card(architecture)[SMALLEST_SCORE[architecture][0]]}


@pytest.mark.parametrize("record", ZEROQ_W8A8, ids=lambda record: record["run"])
def test_eight_bits_without_data_cost_almost_nothing(record):
    assert record["value"] >= record["fp32_value"] - LARGEST_LOSS[record["metric"]]


@pytest.mark.parametrize("record", ZEROQ_W8A8, ids=lambda record: record["run"])
def test_distilled_images_match_the_statistics_twenty_times_better_than_noise(record):
    assert record["gaussian_loss"] / record["distill_loss"] >= 20


def test_nothing_stayed_float():
    for record in RECORDS:
        assert record["quantized_weight_layers"] == record["weight_layers"] == record["quantized_activations"]
        assert record["unreached_activations"] == []
