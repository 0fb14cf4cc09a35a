"""The numbers of the section of docs/results.md on ZeroQ+."""

from collections.abc import Iterator
from statistics import fmean

import yaml

from experiments.core.record import formatted
from tests.paths import ROOT
from tests.results.facts import (
    BOUNDED,
    BUNDLED,
    CHANCE,
    CLASSIFIERS,
    EFFICIENTNET,
    TITLES,
    float_score,
    matching,
    one,
    score,
    signed,
)
from zeroq.distillation.recipe import recipe_by_name

SMALL = {"resnet18": "ResNet18", "mobilenetv2": "MobileNetV2", "squeezenext": "SqueezeNext"}
NOISE = {"method.images": "gaussian"}
REAL = {"method.images": "real"}
QUICK = {"distill": "quick"}
LEARNED = {"method.rounding": "learned"}
PLUS = (
    ("`zeroq+`", "zeroq+", {}),
    ("`zeroq+`, learned", "zeroq+", LEARNED),
    ("`zeroq+`, noise", "zeroq+", NOISE),
    ("`zeroq+`, real", "zeroq+", REAL),
    ("`zeroq`", "zeroq", {}),
)
# What is left out of zeroq+.
PARTS = (
    ("`zeroq+`", "zeroq+", {}),
    ("without compensated rounding", "zeroq+", {"method.rounding": "nearest"}),
    ("without clipping", "zeroq+", {"method.clipping": "none"}),
    ("without bias correction", "zeroq+", {"method.bias_correction": "none"}),
    ("from images by the paper's recipe, bounded", "zeroq+", BOUNDED),
)
# What zeroq gains alone.
ALONE = (
    ("`zeroq`", "zeroq", {}),
    ("with compensated rounding", "zeroq", {"method.rounding": "compensated"}),
    ("with clipping", "zeroq", {"method.clipping": "output_error"}),
    ("with bias correction", "zeroq", {"method.bias_correction": "empirical"}),
)
PLUS_WIDTHS = (
    *("W8/A8", "W6/A6", "MP4/A8", "MP3/A8", "MP2.5/A8"),
    *("W4/A8", "W3/A8", "W2/A8", "W4/A4", "W3/A3"),
)


def passages() -> Iterator[str]:
    yield from scores()
    yield from learned()
    yield from quick()
    yield from parts(PARTS)
    yield from parts(ALONE)
    yield from integers()
    yield from photographs()


def scores() -> Iterator[str]:
    yield f"| {' | '.join(PLUS_WIDTHS)} |"
    for name in BUNDLED:
        for title, method, own in PLUS:
            cells = [plus_cell(name, method, bits, own) for bits in PLUS_WIDTHS]
            if set(cells) != {"–"}:
                yield f"| {TITLES[name]}, {float_score(name)} | {title} | {' | '.join(cells)} |"
    for bits, words in (
        ("MP3/A8", "3 bits on average cost the classifiers at most {} points, RetinaNet {} mAP"),
        ("W4/A8", "uniform 4-bit weights at most {} points and {} mAP"),
        ("W4/A4", "4-bit weights and activations at most {} points and {} mAP"),
    ):
        lost = {name: float_score(name) - score(name, "zeroq+", bits) for name in BUNDLED}
        yield words.format(f"{max(lost[name] for name in CLASSIFIERS):.2f}", f"{lost['retinanet']:.3f}")
    above, below, among = beyond_chance(NOISE)
    yield f"above Gaussian noise by more than chance in {above} of {among} comparisons, below in {below}"
    above, below, among = beyond_chance(REAL)
    yield f"above training images in {above} of {among}, below in {below}"
    ours, theirs = (score("mobilenetv2", "zeroq+", "W3/A3", own) for own in ({}, NOISE))
    yield f"MobileNetV2 with W3/A3 has {ours} from them and {theirs} from noise"


def beyond_chance(settings: dict[str, str]) -> tuple[int, int, int]:
    """How often distilled images are above other ones below 8 bits, and below them, of how many comparisons."""
    pairs = [(name, bits) for name in BUNDLED for bits in PLUS_WIDTHS[1:] if matching(name, "zeroq+", bits, settings)]
    gains = [
        round(score(name, "zeroq+", bits) - score(name, "zeroq+", bits, settings), 6) / CHANCE[own_metric(name)]
        for name, bits in pairs
    ]
    return sum(gain > 1 for gain in gains), sum(gain < -1 for gain in gains), len(pairs)


def learned() -> Iterator[str]:
    """Against compensated rounding, from the first seed's images."""
    gains = {
        (name, bits): one(name, "zeroq+", bits, LEARNED)["value"] - one(name, "zeroq+", bits)["value"]
        for name in SMALL
        for bits in PLUS_WIDTHS[2:]
    }
    for bits in ("W2/A8", "W3/A3"):
        own = [gains[name, bits] for name in SMALL]
        yield f"{signed(min(own), 2)} to {signed(max(own), 2)} points at {bits}"
    rest = [gain for (_, bits), gain in gains.items() if bits not in ("W2/A8", "W3/A3")]
    yield f"between {signed(min(rest), 2)} and {signed(max(rest), 2)} elsewhere"


def quick() -> Iterator[str]:
    """Few images after few iterations beside many after many."""
    recipe, conf = recipe_by_name("natural"), ROOT / "conf" / "distill"
    numbers = yaml.safe_load((conf / "published.yaml").read_text()) | yaml.safe_load(
        (conf / "natural.yaml").read_text()
    )
    yield f"distils {recipe.count} images in {recipe.iterations} iterations"
    yield f"where the table has {numbers['count']} after {numbers['iterations']}"
    yield f"`count={numbers['count']}, iterations={numbers['iterations']}`"
    for bits in ("W8/A8", "MP4/A8", "W4/A8", "W4/A4"):
        won = {name: score(name, "zeroq+", bits, QUICK) - score(name, "zeroq+", bits) for name in BUNDLED}
        of_classifiers = [won[name] for name in CLASSIFIERS]
        mean, least, most = (f(of_classifiers) for f in (fmean, min, max))
        cells = [signed(mean, 2), signed(least, 2), signed(most, 2), signed(won["retinanet"], 3)]
        yield f"| {bits} | {' | '.join(cells)} |"


def parts(rows: tuple[tuple[str, str, dict], ...]) -> Iterator[str]:
    """From the first seed's images, as the parts are."""
    columns = [(name, bits) for bits in ("W4/A8", "W4/A4") for name in SMALL]
    yield f"| | {' | '.join(f'{SMALL[name]} {bits}' for name, bits in columns)} |"
    for title, method, own in rows:
        values = [one(name, method, bits, own)["value"] for name, bits in columns]
        yield f"| {title} | {' | '.join(f'{value:.2f}' for value in values)} |"


def integers() -> Iterator[str]:
    """What placement integer costs beside the float network."""
    for bits in ("W8/A8", "W4/A8", "MP4/A8"):
        lost = {name: float_score(name) - one(name, "zeroq+", bits, placement="integer")["value"] for name in BUNDLED}
        yield f"{max(lost[name] for name in CLASSIFIERS):.2f} points and {lost['retinanet']:.3f} mAP at {bits}"


def photographs() -> Iterator[str]:
    small = {"distill.size": "112"}
    found = [
        f"{score(EFFICIENTNET, 'zeroq+', bits, small)} at {bits}" for bits in ("W8/A8", "MP4/A8", "W4/A8", "W4/A4")
    ]
    yield f"EfficientNet-Lite0 ({float_score(EFFICIENTNET)}) has {', '.join(found[:-1])} and {found[-1]}"
    own = [score(EFFICIENTNET, "zeroq+", bits, small, placement="integer") for bits in ("W8/A8", "MP4/A8")]
    yield f"For integer runtimes it has {own[0]} and {own[1]}"
    worst = score(EFFICIENTNET, "zeroq", "W4/A8")
    yield f"(`zeroq`: {worst} at W4/A8)"


def plus_cell(name: str, method: str, bits: str, settings: dict[str, str]) -> str:
    if not matching(name, method, bits, settings):
        return "–"
    return formatted(score(name, method, bits, settings), own_metric(name))


def own_metric(name: str) -> str:
    return float_score(name).metric
