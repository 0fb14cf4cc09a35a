"""The numbers of docs/results.md on grouped searches, and on what images say of layers."""

from collections.abc import Iterator
from statistics import median

from scipy.stats import spearmanr

from experiments.analysis.image_distances import KINDS, read_rows
from experiments.distances import COUNT, REFERENCE
from tests.paths import RESULTS
from tests.results.facts import (
    BUNDLED,
    CHANCE,
    CLASSIFIERS,
    EFFICIENTNET,
    FAST,
    TITLES,
    one,
    sensitivities,
    signed,
)

GROUPED = FAST | {"frontier": "grouped"}
WIDTH = 4
NUMBERS = {6: "six", 7: "seven", 8: "eight", 9: "nine"}


def passages() -> Iterator[str]:
    yield from searches()
    yield from orders()
    yield from distances()


def searches() -> Iterator[str]:
    """Exact plans beside those of the grouped search."""
    exact, grouped = (
        {name: one(name, "zeroq", "MP4/A8", settings) for name in BUNDLED} for settings in (FAST, GROUPED)
    )
    found = {name: record["grouped"] for name, record in grouped.items()}
    assert all(each["sensitivity"] > each["exact_sensitivity"] for each in found.values())
    yield f"sum up to more Ω on all {NUMBERS[len(found)]} networks"
    changes = {name: 100 * (each["divergence"] / each["exact_divergence"] - 1) for name, each in found.items()}
    less = [name for name, change in changes.items() if change < 0]
    more = sorted(changes.keys() - set(less))
    deepest = sorted(CLASSIFIERS, key=lambda name: len(grouped[name]["plan"]))[-2:]
    assert more == sorted(deepest) == ["resnet152", "squeezenext"]
    yield f"less than the exact ones on {NUMBERS[len(less)]}, by up to {-min(changes.values()):.0f} %"
    yield f"by {changes['resnet152']:.0f} % and {changes['squeezenext']:.0f} % more on ResNet152 and SqueezeNext"
    means = [record["mean_weight_bits"] for record in grouped.values()]
    yield f"They use {min(means):.2f} to {max(means):.2f} of 4 bits"
    scores = {name: round(grouped[name]["value"] - exact[name]["value"], 4) for name in BUNDLED}
    points = [scores[name] for name in CLASSIFIERS]
    assert max(map(abs, points)) <= CHANCE["top1"]
    yield f"Scores change by {signed(min(points), 2)} to {max(points):.2f} points, which may be chance"
    yield f"and by {scores['retinanet']:.3f} mAP"


def orders() -> Iterator[str]:
    """How alike images order layers: Spearman's ρ of Ω with that of real images, where scores depend on the layer."""
    models = {**TITLES, EFFICIENTNET: "EfficientNet-Lite0"}
    correlations: dict[str, dict[str, float]] = {"zeroq": {}, "gaussian": {}}
    ratios = {}
    for model, title in models.items():
        own, noise, real = (sensitivities(one(model, each, "MP4/A8"))[WIDTH] for each in ("zeroq", "gaussian", "real"))
        for method, omega in (("zeroq", own), ("gaussian", noise)):
            correlations[method][title] = float(spearmanr(omega[real > 0], real[real > 0]).statistic)
        ratios[model] = median((own / real)[real > 0])
    distilled, gaussian = correlations.values()
    assert all(distilled[title] > gaussian[title] for title in distilled)
    yield f"more as real ones do than noise does, on all {NUMBERS[len(distilled)]} networks"
    ends = []
    for found in (distilled, gaussian):
        ordered = sorted(found, key=lambda title: found[title])
        ends += [f"{found[title]:.2f} ({title})" for title in (ordered[0], ordered[-1])]
    yield f"between {ends[0]} and {ends[1]}, that of noise between {ends[2]} and {ends[3]}"
    of_classifiers = [ratios[name] for name in CLASSIFIERS]
    yield f"median layer's Ω is {min(of_classifiers):.1f} to {max(of_classifiers):.1f} times that of training images"


def distances() -> Iterator[str]:
    """How far images are from training images in a layer, by the median of layers."""
    rows = read_rows(RESULTS / "distances")
    assert [row["network"] for row in rows] == sorted(f"fashion/{name}" for name in BUNDLED)
    middle = {kind: [median(row["distances"][kind]) for row in rows] for kind in KINDS}
    noise, distilled, real = (f"{min(found):.2f} to {max(found):.2f}" for found in middle.values())
    yield f"BatchNorm layer is {noise} standard deviations from what {REFERENCE} training images give"
    yield f"(`distill=fast`) are {distilled} away, and {COUNT} other training images {real}"
    own = dict(zip((row["network"] for row in rows), zip(*middle.values(), strict=True), strict=True))
    nearer = [network for network, (_, images, training) in own.items() if images < training]
    assert nearer == ["fashion/retinanet"]
    yield f"On RetinaNet, distilled images are nearer than {COUNT} scenes"
