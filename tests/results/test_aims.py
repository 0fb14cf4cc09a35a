"""What the committed weights and records must show."""

import json
from itertools import product

import pytest

from experiments.analysis.collection import from_folders
from experiments.core.results import KeptRuns
from tests.paths import RESULTS
from zeroq.networks import zoo
from zeroq.quantization.affine import FLOAT_BITS

COLLECTION = from_folders(results=RESULTS)
RECORDS = COLLECTION.records
RUNS = KeptRuns(RESULTS).lines.keys()
MODELS = sorted({record["model"] for record in RECORDS})
EFFICIENTNET = "imagenet/efficientnet_lite0"
BOUNDED = {"distill": "bounded"}
METHODS = ("naive", "gaussian", "zeroq", "real")
TRAINED = [architecture for architecture in zoo.ARCHITECTURES if (zoo.WEIGHTS / f"{architecture}.json").exists()]
SMALLEST_SCORE = dict.fromkeys(zoo.CLASSIFIERS, ("top1", 91))
SMALLEST_SCORE |= {"resnet18": ("top1", 92), "retinanet": ("map", 0.55)}
LARGEST_LOSS = {"top1": 0.5, "map": 0.01}  # points, and mean average precision as a share
# How often distilled images must be nearer to the BatchNorm statistics than Gaussian ones.
SMALLEST_RATIO = dict.fromkeys(zoo.ARCHITECTURES, 20) | {"inceptionv3": 10, "shufflenet": 19}
# Uniform 4 bits cost ResNet152 no more than 0.2 points: there is nothing to win back.
NOTHING_TO_WIN = ("resnet152",)
WEIGHTS_BYTES = 20_000_000


def test_no_record_is_left_out():
    assert COLLECTION.omissions == []


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


def find(model: str, placement: str = "layer_inputs", settings: dict | None = None, **wanted) -> dict:
    """The record that has all these values, and the default settings where none are given."""
    wanted = {"seed": 0} | wanted | {"model": model, "placement": placement}
    others = {"placement": placement} if placement != "layer_inputs" else {}
    wanted["settings"] = others | (settings or {})
    (record,) = [record for record in RECORDS if all(record[key] == value for key, value in wanted.items())]
    return record


@pytest.mark.parametrize("model", MODELS)
def test_every_record_s_fp32_value_is_the_card_s(model):
    scores = {record["fp32_value"] for record in RECORDS if record["model"] == model}
    assert len(scores) == 1
    scale, architecture = model.split("/")
    if scale == "fashion":
        assert scores == {read_card(architecture)[SMALLEST_SCORE[architecture][0]]}


@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_every_bundled_network_has_its_records(architecture):
    for method, bits in product(METHODS, ["w8a8", "w6a6", "w4a8", "mp4a8"]):
        assert f"fashion-{architecture},{method},{bits},seed=0" in RUNS


def test_efficientnet_has_its_records():
    for method, bits in product(METHODS, ["w8a8", "w6a6", "w4a8", "mp4a8"]):
        assert f"imagenet-efficientnet_lite0,{method},{bits},seed=0" in RUNS
    for method, bits in product(METHODS, ["w8a8", "w4a8", "mp4a8"]):
        assert f"imagenet-efficientnet_lite0,{method},{bits},seed=0,placement=after_relu" in RUNS


@pytest.mark.parametrize("granularity", ["per_channel", "per_tensor"])
@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_methods_are_compared_at_one_granularity(architecture, granularity):
    for method, bits in product(["naive", "dfq", "zeroq", "zeroq+dfq"], ["w8a8", "w6a6", "w4a8"]):
        own = "per_channel" if method in ("zeroq", "zeroq+dfq") else "per_tensor"
        setting = "" if own == granularity else f",method.per_channel={str(granularity == 'per_channel').lower()}"
        run = f"fashion-{architecture},{method},{bits},seed=0{setting}"
        (record,) = [record for record in RECORDS if record["run"] == run]
        assert record["granularity"] == granularity


def test_dfq_s_steps_on_efficientnet():
    """Its ReLU6 saturates, so that ReLU in its place is another network."""
    steps = ("method.replace_relu6", "method.equalize", "method.absorb")
    none, replaced = (
        find(
            EFFICIENTNET,
            settings={**dict.fromkeys(off, "false"), "method.bias_correction": "none", **bits},
            method="dfq",
        )
        for off in (steps, steps[1:])
        for bits in ({"bits.activation": "32", "bits.weight": "32"},)
    )
    assert none["value"] == pytest.approx(none["fp32_value"], abs=0.1)  # folding changes nothing
    assert replaced["value"] < replaced["fp32_value"] - 20
    for index in range(4):
        settings = {**dict.fromkeys(steps[index:], "false"), "method.bias_correction": "none"}
        find(EFFICIENTNET, settings=settings, method="dfq", w_bits="8", a_bits=8)
    find(EFFICIENTNET, method="dfq", w_bits="8", a_bits=8)


@pytest.mark.parametrize("settings", [{}, BOUNDED], ids=["published", "bounded"])
@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_eight_bits_without_data_cost_almost_nothing(architecture, settings):
    record = find(f"fashion/{architecture}", settings=settings, method="zeroq", w_bits="8", a_bits=8)
    assert record["value"] >= record["fp32_value"] - LARGEST_LOSS[record["metric"]]
    assert record["gaussian_loss"] / record["distill_loss"] >= SMALLEST_RATIO[architecture]


def test_efficientnet_is_prepared_rightly_and_keeps_its_accuracy_at_eight_bits():
    for placement, settings in [("after_relu", {}), ("after_relu", BOUNDED), ("layer_inputs", BOUNDED)]:
        record = find(EFFICIENTNET, placement, settings, method="zeroq", w_bits="8", a_bits=8)
        assert record["fp32_value"] == pytest.approx(76.9, abs=0.3)
        assert record["value"] >= record["fp32_value"] - 1.5


@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
@pytest.mark.parametrize("method", ["zeroq", "real"])
def test_mixed_precision_beats_uniform_at_no_larger_size(architecture, method):
    model = f"fashion/{architecture}"
    mixed, same_width = (find(model, method=method, w_bits=bits, a_bits=8) for bits in ("MP4", "4"))
    assert mixed["size_mib"] <= same_width["size_mib"]
    if architecture in NOTHING_TO_WIN:
        assert same_width["value"] >= same_width["fp32_value"] - 0.2
        assert mixed["value"] >= same_width["value"] - 0.1
    else:
        assert mixed["value"] > same_width["value"]


@pytest.mark.parametrize("placement", ["layer_inputs", "after_relu"])
@pytest.mark.parametrize("settings", [{}, BOUNDED], ids=["published", "bounded"])
def test_mixed_precision_rescues_efficientnet_at_the_size_where_uniform_collapses(placement, settings):
    mixed, same_width = (
        find(EFFICIENTNET, placement, settings, method="zeroq", w_bits=bits, a_bits=8) for bits in ("MP4", "4")
    )
    assert mixed["size_mib"] <= same_width["size_mib"]
    assert same_width["value"] < 20 < 60 < mixed["value"]


def test_nothing_stayed_float():
    for record in RECORDS:
        if record["w_bits"] == str(FLOAT_BITS):
            continue
        assert record["quantized_weight_layers"] == record["weight_layers"]
        assert record["unreached_activations"] == []
        if record["placement"] == "layer_inputs" and record["a_bits"] != FLOAT_BITS:
            assert record["quantized_activations"] == record["weight_layers"]
        elif record["a_bits"] != FLOAT_BITS:
            assert record["quantized_activations"] > 0


DEPLOYED = [record for record in RECORDS if "deployment" in record and record["placement"] == "integer"]
# The largest difference between the file and its simulation, and what 8 bits may cost with everything quantized.
SAME = {"top1": 0.1, "map": 0.002}
SMALLEST_AGREEMENT = 0.995
INTEGER_LOSS = {"top1": 0.7, "map": 0.015}


def test_every_network_was_exported_at_both_settings():
    found = {(record["model"], record["w_bits"]) for record in DEPLOYED}
    models = [*(f"fashion/{name}" for name in zoo.ARCHITECTURES), EFFICIENTNET]
    assert found == set(product(models, ("8", "MP4")))


@pytest.mark.parametrize("record", DEPLOYED, ids=lambda record: f"{record['model']}-{record['w_bits']}")
def test_the_file_is_what_the_simulation_said(record):
    found, metric = record["deployment"], record["metric"]
    assert found["simulated_value"] == record["value"]
    assert abs(record["deployed_value"] - record["value"]) <= SAME[metric] + 1e-9
    assert metric == "map" or found["agreement"] >= SMALLEST_AGREEMENT
    parts = found["weights_mib"] + found["parameters_mib"] + found["graph_mib"]
    assert parts == pytest.approx(record["deployed_mib"], rel=0.01)
    plan, parameters = record["plan"], record["parameters"]
    assert found["planned_weights_mib"] * 2**23 == sum(plan[name] * parameters[name] for name in plan)
    # Packed weights are what the plan says: its widths are 2, 4 and 8 bits.
    assert found["weights_mib"] == pytest.approx(found["planned_weights_mib"], rel=0.001)
    # Every convolution is an integer kernel, but for those that give the network's outputs.
    outputs = {"fashion/mobilenetv2": 1, "fashion/retinanet": 10}.get(record["model"], 0)
    assert found["integer_convolutions"] == found["convolutions"] - outputs


@pytest.mark.parametrize("record", DEPLOYED, ids=lambda record: f"{record['model']}-{record['w_bits']}")
def test_integer_placement_costs_little_at_eight_bits(record):
    if record["w_bits"] == "8" and record["model"] != EFFICIENTNET:  # which is not of the bundled zoo
        assert record["fp32_value"] - record["value"] <= INTEGER_LOSS[record["metric"]] + 1e-9


def test_eight_bits_are_faster():
    (record,) = [each for each in DEPLOYED if each["model"] == EFFICIENTNET and each["w_bits"] == "8"]
    assert record["deployment"]["latency_ms"]["1 threads"]["speedup"] >= 1.8
