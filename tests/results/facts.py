"""What the committed records, tables and benchmarks say, in the form in which documents state it."""

from functools import cache
from statistics import mean, stdev
from typing import Any

import pandas

from experiments.analysis.collection import Collection, from_folders
from experiments.analysis.labels import bits_label, extra_settings
from experiments.core.record import formatted
from tests.paths import RESULTS

CLASSIFIERS = ("resnet18", "resnet50", "resnet152", "mobilenetv2", "shufflenet", "squeezenext", "inceptionv3")
BUNDLED = (*CLASSIFIERS, "retinanet")
TITLES = {
    "resnet18": "ResNet18",
    "resnet50": "ResNet50",
    "resnet152": "ResNet152",
    "mobilenetv2": "MobileNetV2",
    "shufflenet": "ShuffleNet",
    "squeezenext": "SqueezeNext",
    "inceptionv3": "InceptionV3",
    "retinanet": "RetinaNet",
}
EFFICIENTNET = "imagenet/efficientnet_lite0"
BOUNDED = {"distill": "bounded"}
FAST = {"distill": "fast"}
EMPIRICAL = {"method.bias_correction": "empirical"}
WIDE = "[2,3,4,5,6,8]"
EVERY_WIDTH = "[2,3,4,5,6,7,8]"
# What may be chance: points of a top-1 of 10,000 images, or mAP.
CHANCE = {"top1": 0.3, "map": 0.003}


@cache
def committed() -> Collection:
    return from_folders(results=RESULTS)


def records() -> list[dict[str, Any]]:
    return committed().records


def own_granularity(method: str) -> str:
    return "per_tensor" if method in ("naive", "dfq", "ocs") else "per_channel"


def full_name(model: str) -> str:
    return model if "/" in model else f"fashion/{model}"


def matching(
    model: str,
    method: str,
    bits: str,
    settings: dict[str, str] | None = None,
    *,
    placement: str = "layer_inputs",
    granularity: str | None = None,
) -> list[dict[str, Any]]:
    """The records of all seeds of one run; none where it was not made."""
    return [
        record
        for record in records()
        if record["model"] == full_name(model)
        and record["method"] == method
        and bits_label(record) == bits
        and record["placement"] == placement
        and record["granularity"] == (granularity or own_granularity(method))
        and extra_settings(record) == (settings or {})
    ]


def find(*run, **which) -> list[dict[str, Any]]:
    """``matching`` of a run that was made."""
    found = matching(*run, **which)
    assert found, f"no record of {run}, {which}"
    assert len({record["seed"] for record in found}) == len(found)
    return found


class Score(float):
    """The mean score over seeds; as text what a table's cell holds."""

    def __new__(cls, values: list[float], metric: str):
        score = super().__new__(cls, mean(values))
        score.values, score.metric = values, metric
        return score

    def __str__(self) -> str:
        spread = f" ± {formatted(stdev(self.values), self.metric)}" if len(self.values) > 1 else ""
        return formatted(self, self.metric) + spread


def score(model: str, method: str, bits: str, settings: dict[str, str] | None = None, **which) -> Score:
    found = find(model, method, bits, settings, **which)
    return Score([record["value"] for record in found], found[0]["metric"])


def float_score(model: str) -> Score:
    (value,) = {record["fp32_value"] for record in records() if record["model"] == full_name(model)}
    (metric,) = {record["metric"] for record in records() if record["model"] == full_name(model)}
    return Score([value], metric)


def one(model: str, method: str, bits: str, settings: dict[str, str] | None = None, **which) -> dict[str, Any]:
    """The record of seed 0."""
    (record,) = [each for each in find(model, method, bits, settings, **which) if each["seed"] == 0]
    return record


def sensitivities(record: dict[str, Any]) -> pandas.DataFrame:
    """Ω of a run in nats: layer × bits."""
    return committed().sensitivity(record)


def brief(found: Score) -> str:
    """A top-1 of 1,000 images, of which one is 0.1 points."""
    assert len(found.values) == 1
    return f"{found:.1f}"


def signed(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def table_cell(network: str, tool: str, column: str) -> float:
    """A mean score of the table of other tools, which another test holds to its records."""
    table = pandas.read_csv(RESULTS / "other_tools" / "table.csv")
    (cell,) = table[(table["Network"] == network) & (table["Tool"] == tool)][column]
    return float(str(cell).split()[0])


def width_cell(network: str, tool: str, images: str, bits: str) -> str:
    """A mean score of the table of other tools by width, which another test holds to its records; – for none."""
    table = pandas.read_csv(RESULTS / "other_tools" / "widths.csv", dtype=str)
    (cell,) = table[(table["Network"] == network) & (table["Tool"] == tool) & (table["Images"] == images)][bits]
    return cell.split()[0]
