"""What the committed weights and records must show."""

import json
from pathlib import Path

import pytest

from experiments.record import read_records
from zeroq.networks import zoo

RECORDS = read_records(Path(__file__).parents[1] / "results" / "runs")
EMBEDDED = [record for record in RECORDS if record["model"].startswith("fashion/")]
MODELS = sorted({record["model"] for record in RECORDS})
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


def find(**wanted) -> dict:
    """The one record that has all these values and otherwise the default settings."""
    wanted |= {"settings": {}, "placement": "layer_inputs"}
    (record,) = [record for record in RECORDS if all(record[key] == value for key, value in wanted.items())]
    return record


@pytest.mark.parametrize("model", MODELS)
def test_every_record_s_fp32_value_is_the_card_s(model):
    scores = {record["fp32_value"] for record in RECORDS if record["model"] == model}
    assert len(scores) == 1
    scale, architecture = model.split("/")
    if scale == "fashion":
        assert scores == {read_card(architecture)[SMALLEST_SCORE[architecture][0]]}


@pytest.mark.parametrize("record", EMBEDDED, ids=lambda record: record["run"])
def test_eight_bits_without_data_cost_almost_nothing(record):
    if (record["method"], record["w_bits"], record["a_bits"]) == ("zeroq", "8", 8):
        assert record["value"] >= record["fp32_value"] - LARGEST_LOSS[record["metric"]]
        assert record["gaussian_loss"] / record["distill_loss"] >= 20


@pytest.mark.parametrize("model", sorted({record["model"] for record in EMBEDDED}))
@pytest.mark.parametrize("method", ["zeroq", "real"])
def test_mixed_precision_beats_uniform_at_no_larger_size(model, method):
    mixed, uniform = (find(model=model, method=method, w_bits=bits, a_bits=8) for bits in ("MP4", "4"))
    assert mixed["value"] >= uniform["value"]
    assert mixed["size_mib"] <= uniform["size_mib"]


def test_nothing_stayed_float():
    for record in RECORDS:
        assert record["quantized_weight_layers"] == record["weight_layers"]
        assert record["unreached_activations"] == []
        if record["placement"] == "layer_inputs":
            assert record["quantized_activations"] == record["weight_layers"]
