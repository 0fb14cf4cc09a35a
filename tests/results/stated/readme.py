"""The numbers of the README."""

import csv
from collections.abc import Iterator

from experiments.core.record import formatted
from tests.paths import ROOT
from tests.results.facts import (
    BOUNDED,
    BUNDLED,
    CLASSIFIERS,
    EFFICIENTNET,
    TITLES,
    WIDE,
    brief,
    float_score,
    one,
    records,
    score,
)
from tests.results.stated import results

SETTINGS = ("W8/A8", "MP6/A6", "MP4/A8")
REPORTED = ROOT / "experiments" / "analysis" / "reported.csv"


def passages() -> Iterator[str]:
    yield from picture()
    yield from map(paper_row, BUNDLED)
    yield from six_lines()
    yield "Python 3.11"
    yield "https://arxiv.org/abs/2001.00281"


def picture() -> Iterator[str]:
    wide = BOUNDED | {"bits.candidates": WIDE}
    uniform, mixed = (score(EFFICIENTNET, "zeroq", bits) for bits in ("W4/A8", "MP4/A8"))
    record = one(EFFICIENTNET, "zeroq", "MP4/A8", wide)
    assert record["size_mib"] <= one(EFFICIENTNET, "zeroq", "W4/A8")["size_mib"]
    assert round(record["fp32_size_mib"] / record["size_mib"]) == 8
    yield f"At {record['size_mib']:.1f} MiB, an eighth of its size"
    yield f"gets {brief(uniform)} % of {record['images']:,} photographs right with 4-bit weights"
    yield f"With 2, 4 or 8 bits, layer by layer, it gets {brief(mixed)} % (red star)"
    yield f"and {record['value']:.1f} % with 2 to 6 or 8 bits and bounded images"
    bounded = score(EFFICIENTNET, "zeroq", "W8/A8", BOUNDED)
    published, whole = score(EFFICIENTNET, "zeroq", "W8/A8"), float_score(EFFICIENTNET)
    yield f"everywhere it keeps {brief(published)} of {brief(whole)} %, and {brief(bounded)} % with bounded images"


def reported(name: str, bits: str) -> str:
    """What was reported for the paper's own network, – where nothing was."""
    width, activation = bits.removeprefix("W").split("/A")
    method = "fp32" if bits == "W32/A32" else "zeroq"
    model = "retinanet_resnet50" if name == "retinanet" else name
    with REPORTED.open() as file:
        found = [
            row
            for row in csv.DictReader(file)
            if (row["model"], row["method"], row["w_bits"], row["a_bits"]) == (model, method, width, activation)
        ]
    if not found or not found[0]["value"]:
        return "–"
    value = float(found[0]["value"])
    return formatted(value / 100, "map") if name == "retinanet" else formatted(value, "top1")


def paper_row(name: str) -> str:
    """A bundled network of seed 0 to n, and what the paper's own was reported to have."""
    whole = float_score(name)
    ours = [formatted(score(name, "zeroq", bits), whole.metric) for bits in SETTINGS]
    theirs = [reported(name, bits) for bits in SETTINGS]
    quoted = f"{reported(name, 'W32/A32')} → {', '.join(theirs)}" if theirs != ["–"] * 3 else "–"
    return f"| {TITLES[name]} | `paper/{name}` | {whole} → {', '.join(ours)} | {quoted} |"


def six_lines() -> Iterator[str]:
    points, mean_precision = results.costs_at_eight_bits()
    yield f"at most {points:.2f} points on seven classifiers and {mean_precision:.3f} mAP on RetinaNet"
    lost, lost_bounded = (
        float_score(EFFICIENTNET) - score(EFFICIENTNET, "zeroq", "W8/A8", settings) for settings in ({}, BOUNDED)
    )
    yield f"EfficientNet-Lite0 loses {lost:.1f} points, and {lost_bounded:.1f} with bounded images"
    gains = [score(name, "zeroq", "MP4/A8") - score(name, "zeroq", "W4/A8") for name in CLASSIFIERS]
    gain = score("retinanet", "zeroq", "MP4/A8") - score("retinanet", "zeroq", "W4/A8")
    yield f"{sum(each > 0 for each in (*gains, gain))} of 8 bundled networks gain, by up to {max(gains):.1f} points"
    for settings, widths, words in (
        ({}, results.BELOW_EIGHT, "better in {} of {} comparisons, worse in {}"),
        (BOUNDED, [bits for bits in results.BELOW_EIGHT if bits != "MP6/A6"], "better in {} of {}, worse in {}"),
    ):
        found = [pair for bits in widths for pair in results.against_gaussian(bits, settings).values()]
        above, below = (sum(sign * gain > chance for gain, chance in found) for sign in (1, -1))
        yield words.format(above, len(found), below)
    lost = {
        (method, bits): max(float_score(name) - score(name, method, bits) for name in CLASSIFIERS)
        for method, bits in (("zeroq+", "MP3/A8"), ("zeroq+", "W4/A4"), ("zeroq", "W4/A4"))
    }
    yield f"average cost at most {lost['zeroq+', 'MP3/A8']:.2f} points"
    yield f"and 4-bit weights and activations at most {lost['zeroq+', 'W4/A4']:.1f} instead of"
    yield f"{lost['zeroq', 'W4/A4']:.1f}."
    exported = [record for record in records() if "deployment" in record and record["placement"] == "integer"]
    assert all(record["metric"] == "map" or record["deployment"]["agreement"] == 1 for record in exported)
    fastest = max(each["speedup"] for record in exported for each in record["deployment"]["latency_ms"].values())
    yield f"the same class, up to {fastest:.1f} times as fast"
