"""The numbers of docs/results.md."""

import re
from collections.abc import Iterator

from tests.results.facts import (
    BOUNDED,
    BUNDLED,
    CHANCE,
    CLASSIFIERS,
    EFFICIENTNET,
    EMPIRICAL,
    EVERY_WIDTH,
    WIDE,
    brief,
    float_score,
    one,
    records,
    score,
    sensitivities,
    signed,
)
from tests.results.stated import as_published, other_tools, others, plans_and_images, zeroq_plus
from zeroq.networks import efficientnet_lite

BELOW_EIGHT = ("W6/A6", "W4/A8", "W4/A4", "MP6/A6", "MP4/A8")
PER_TENSOR = {"granularity": "per_tensor"}
PER_CHANNEL = {"granularity": "per_channel"}
NO_EQUALIZATION = {"method.equalize": "false"}
UNEQUAL = ("resnet50", "resnet152", "shufflenet")


def passages() -> Iterator[str]:
    yield from how_to_read_them()
    yield from eight_bits()
    yield from mixed_precision()
    yield from plans_and_images.passages()
    yield from distilled_or_gaussian()
    yield from as_published.passages()
    yield from zeroq_plus.passages()
    yield from dfq()
    yield from equalization()
    yield from efficientnet()
    yield from settings()
    yield from others.passages()
    yield from other_tools.passages()
    yield from statistics()


def how_to_read_them() -> Iterator[str]:
    (images,) = {record["images"] for record in records() if record["dataset"] == "fashion-mnist"}
    yield f"a top-1 of 92 % has a standard error of {100 * (0.92 * 0.08 / images) ** 0.5:.2f} points"
    yield f"up to {CHANCE['top1']} points may be chance. For RetinaNet, {CHANCE['map']} mAP"
    (photographs,) = {record["images"] for record in records() if record["model"] == EFFICIENTNET}
    yield f"scored on {photographs:,} photographs"
    error = 100 * (0.769 * 0.231 / photographs) ** 0.5
    assert 1.2 < error < 1.5
    yield f"One image is {100 / photographs:.1f} points, and a difference of less than about 1.5 points may be chance"


def costs_at_eight_bits() -> tuple[float, float]:
    """The most that W8/A8 costs with published or bounded images: points of a classifier, mAP of the detector."""
    costs = {
        name: max(float_score(name) - score(name, "zeroq", "W8/A8", own) for own in ({}, BOUNDED)) for name in BUNDLED
    }
    return max(costs[name] for name in CLASSIFIERS), costs["retinanet"]


def eight_bits() -> Iterator[str]:
    points, mean_precision = costs_at_eight_bits()
    assert float_score("mobilenetv2") - score("mobilenetv2", "zeroq", "W8/A8") == points
    assert len(score("mobilenetv2", "zeroq", "W8/A8").values) == 5
    yield f"cost at most {points:.2f} points (MobileNetV2, the mean of five seeds) and {mean_precision:.3f} mAP"
    kept = {
        (placement, name): brief(score(EFFICIENTNET, "zeroq", "W8/A8", own, placement=placement))
        for placement in ("layer_inputs", "after_relu")
        for name, own in (("published", {}), ("bounded", BOUNDED))
    }
    inputs = f"it has {kept['layer_inputs', 'published']} of {brief(float_score(EFFICIENTNET))} %, and "
    yield f"{inputs}{kept['layer_inputs', 'bounded']} with `distill=bounded`"
    assert kept["after_relu", "published"] == kept["after_relu", "bounded"]
    yield f"it keeps {kept['after_relu', 'bounded']} either way"


def mixed_precision() -> Iterator[str]:
    gains = {name: score(name, "zeroq", "MP4/A8") - score(name, "zeroq", "W4/A8") for name in BUNDLED}
    for name in BUNDLED:
        assert one(name, "zeroq", "MP4/A8")["size_mib"] <= one(name, "zeroq", "W4/A8")["size_mib"]
    assert [name for name, gain in gains.items() if gain <= 0] == ["resnet152"]
    points = [gains[name] for name in CLASSIFIERS if name != "resnet152"]
    yield f"by {min(points):.1f} to {max(points):.1f} points (RetinaNet by {gains['retinanet']:.3f} mAP)"
    losses = [
        float_score("resnet152") - score("resnet152", method, bits)
        for method in ("zeroq", "real")
        for bits in ("W4/A8", "MP4/A8")
    ]
    uniform, mixed, *real = (f"{loss:.2f}" for loss in losses)
    yield f"uniform 4 bits cost it {uniform} points and mixed ones {mixed}."
    yield f"With real images they cost {' and '.join(real)}"
    misled = score("resnet50", "gaussian", "W4/A8") - score("resnet50", "gaussian", "MP4/A8")
    yield f"ResNet50's is {misled:.2f} points *below* uniform 4 bits"
    changes = [score(name, "zeroq", "MP6/A6") - score(name, "zeroq", "W6/A6") for name in CLASSIFIERS]
    yield f"MP6/A6 lies between {signed(min(changes), 2)} and {max(changes):.2f} points from W6/A6"
    uniform, float_activations = (score("resnet50", "zeroq", bits) for bits in ("W4/A8", "W4/A32"))
    yield f"ResNet50 has {uniform} at W4/A8, and {float_activations} with float activations (W4/A32)"
    naive, gaussian = (score("resnet50", method, "W4/A8") for method in ("naive", "gaussian"))
    assert naive > gaussian > uniform
    for name in ("resnet152", EFFICIENTNET):
        assert score(name, "naive", "W4/A8") < score(name, "gaussian", "W4/A8") < score(name, "zeroq", "W4/A8")
    yield f"(`naive`, {naive}), and what Gaussian ranges clip happens to make up for it ({gaussian})"


def against_gaussian(bits: str, settings: dict[str, str], method: str = "zeroq") -> dict[str, tuple[float, float]]:
    """For each bundled network: how far above Gaussian noise, and what may be chance."""
    found = {}
    for name in BUNDLED:
        ours, noise = score(name, method, bits, settings), score(name, "gaussian", bits)
        found[name] = (round(ours - noise, 6), CHANCE[ours.metric])  # a difference of 0.3 is not more than 0.3
    return found


def distilled_or_gaussian() -> Iterator[str]:
    published = [pair for bits in BELOW_EIGHT for pair in against_gaussian(bits, {}).values()]
    yield f"there are {len(published)} comparisons"
    above, below = (sum(sign * gain > chance for gain, chance in published) for sign in (1, -1))
    yield f"above Gaussian noise in {sum(gain >= 0 for gain, _ in published)}."
    yield f"It is above by more than chance in {above}, and below by more than chance in {below}, "
    yield f"MobileNetV2 has {score('mobilenetv2', 'zeroq', 'W4/A4')} at W4/A4"
    few = ("shufflenet", "ShuffleNet has"), ("resnet152", "ResNet152"), ("retinanet", "and RetinaNet")
    for name, words in few:
        bounded, unbounded = (score(name, "zeroq", "W4/A4", own) for own in (BOUNDED, {}))
        yield f"{words} {bounded} instead of {unbounded}"
    for name, ratio in (("shufflenet", 2), (EFFICIENTNET, 0.5)):
        losses = [one(name, "zeroq", "W8/A8", own)["distill_loss"] for own in (BOUNDED, {})]
        assert 0.9 < losses[0] / losses[1] / ratio < 1.15
    widths = [bits for bits in BELOW_EIGHT if bits != "MP6/A6"]
    pairs = [(bits, name, *found) for bits in widths for name, found in against_gaussian(bits, BOUNDED).items()]
    losing = [(bits, name) for bits, name, gain, _ in pairs if gain < 0]
    yield f"noise in {len(pairs) - len(losing)} of {len(pairs)} comparisons (all but MP6/A6), "
    above, below = (sum(sign * gain > chance for _, _, gain, chance in pairs) for sign in (1, -1))
    yield f"above by more than chance in {above}, below by more than chance in {below}"
    assert [len(losing), above, below] == [6, 15, 3]
    real = {pair: against_gaussian(pair[0], {}, "real")[pair[1]][0] for pair in losing}
    (exception,) = [pair for pair, gain in real.items() if gain >= 0]
    ((gain, _),) = [against_gaussian(exception[0], BOUNDED)[exception[1]]]
    yield f"the sixth differs by {-gain:.2f}"


def dfq() -> Iterator[str]:
    losses = [float_score(name) - score(name, "dfq", "W8/A8") for name in CLASSIFIERS]
    assert max(losses) <= CHANCE["top1"]
    yield f"within {CHANCE['top1']} points of FP32 on the seven bundled classifiers"
    off = {"method.bias_correction": "none", "method.absorb": "false"}
    folded = off | NO_EQUALIZATION | {"method.replace_relu6": "false"}
    steps = [score("mobilenetv2", "dfq", "W4/A8", own) for own in (folded, off, {})]
    yield f"MobileNetV2 has {steps[0]} after folding alone, {steps[1]} after equalization and {steps[2]} after"
    others = [score("mobilenetv2", method, "W4/A8", **PER_TENSOR) for method in ("naive", "zeroq")]
    yield f"(`naive` {others[0]}, `zeroq` {others[1]})"
    rises = []
    for name, bits in (("mobilenetv2", "W4/A8"), ("inceptionv3", "W4/A8"), ("shufflenet", "W6/A6")):
        plain, corrected = score(name, "zeroq", bits), score(name, "zeroq", bits, EMPIRICAL)
        rises.append(f"from {plain:.2f} to {corrected:.2f}")
    yield f"ZeroQ's W4/A8 rises {rises[0]} on MobileNetV2 and {rises[1]} on InceptionV3"
    yield f"ShuffleNet goes {rises[2]}"
    replaced = score(EFFICIENTNET, "dfq", "W32/A32", off | NO_EQUALIZATION)
    yield f"in float, {brief(float_score(EFFICIENTNET))} % become {brief(replaced)} %"
    kept = score(EFFICIENTNET, "dfq", "W8/A8", {"method.replace_relu6": "false"})
    alone = score(EFFICIENTNET, "dfq", "W8/A8", folded)
    yield f"has {brief(alone)} % with folding alone, and {brief(kept)} % with equalization, absorption and"
    naive, zeroq = (score(EFFICIENTNET, method, "W8/A8", **PER_TENSOR) for method in ("naive", "zeroq"))
    yield f"(`naive` {brief(naive)}; `zeroq` {brief(zeroq)} with one range a tensor)"
    yield f"DFQ has {score('retinanet', 'dfq', 'W8/A8')} at W8/A8"
    yield f"(`zeroq+dfq`, one range a tensor) have {score('retinanet', 'zeroq+dfq', 'W8/A8', **PER_TENSOR)}"


def equalization() -> Iterator[str]:
    for granularity in (PER_TENSOR, PER_CHANNEL):
        equal, unequal = (
            [score(name, "dfq", "W4/A8", own, **granularity) for name in UNEQUAL] for own in ({}, NO_EQUALIZATION)
        )
        together = f"have {equal[0]}, {equal[1]} and {equal[2]} with it"
        yield f"{together}, and {unequal[0]}, {unequal[1]} and {unequal[2]} without"
    names = ("stage1.unit1.body.conv1", "stage1.unit1.dw_conv2")
    omegas = {}
    for name, layer in zip(("resnet50", "shufflenet"), names, strict=True):
        without, equal = (
            sensitivities(one(name, "zeroq+dfq", "W4/A8", own, **PER_TENSOR))[4] for own in (NO_EQUALIZATION, {})
        )
        (key,) = [key for key in equal.index if f".{layer}." in f".{key}."]
        assert (equal - without).idxmax() == key
        weights = one(name, "zeroq+dfq", "W4/A8", **PER_TENSOR)["parameters"][key]
        omegas[name] = (without[key], equal[key], without.sum() - without[key], equal.sum() - equal[key], weights)
    before, after, rest_before, rest_after, weights = omegas["resnet50"]
    yield f"`{names[0]}`, {weights} weights, rises from {before:.3f} to {after:.3f}"
    yield f"all other layers together fall from {rest_before:.3f} to {rest_after:.3f}"
    before, after, *_, weights = omegas["shufflenet"]
    yield f"`{names[1]}`, {weights} weights, from {before:.3f} to {after:.3f}"


def efficientnet() -> Iterator[str]:
    relu = {"placement": "after_relu"}

    def mixed(method: str = "zeroq", **own: str) -> str:
        return brief(score(EFFICIENTNET, method, "MP4/A8", own, **relu))

    def wide(method: str = "zeroq", **own: str) -> str:
        return mixed(method, **{"bits.candidates": WIDE} | own)

    uniform = [
        score(EFFICIENTNET, method, "W4/A8", own, **relu)
        for method, own in (("gaussian", {}), ("zeroq", {}), ("zeroq", BOUNDED), ("real", {}))
    ]
    assert all(14 <= value <= 15.5 for value in uniform)
    yield f"Uniform 4 bits collapse to {sum(uniform) / len(uniform):.0f} %"
    gain = score(EFFICIENTNET, "zeroq", "MP4/A8", BOUNDED, **relu) - uniform[2]
    size = one(EFFICIENTNET, "zeroq", "MP4/A8", BOUNDED, **relu)["size_mib"]
    yield f"Mixed precision wins {gain:.0f} points back at the same {size:.1f} MiB"
    yield f"| candidates {{2, 4, 8}} | {mixed(**BOUNDED)} |"
    yield f"| candidates {{2, 3, 4, 5, 6, 8}} | {wide(**BOUNDED)} |"
    yield f"| candidates {{2, 3, 4, 5, 6, 7, 8}} | {mixed(**BOUNDED | {'bits.candidates': EVERY_WIDTH})} |"
    yield f"(`bits.refine=8`) | {wide(**BOUNDED | {'bits.refine': '8'})} |"
    yield f"(`sensitivity_direction=symmetric`) | {wide(**BOUNDED | {'sensitivity_direction': 'symmetric'})} |"
    counts = [wide(**BOUNDED | {"distill.count": count}) for count in ("8", "16")]
    yield f"8 or 16 images instead of 32 | {', '.join(counts)} |"
    images = "images of the published recipe, Gaussian noise, photographs"
    yield f"| {{2, 3, 4, 5, 6, 8}}, {images} | {wide()}, {wide('gaussian')}, {wide('real')} |"
    yield f"| {{2, 4, 8}}, {images} | {mixed()}, {mixed('gaussian')}, {mixed('real')} |"
    six = brief(score(EFFICIENTNET, "zeroq", "MP6/A8", BOUNDED, **relu))
    yield f"| {{2, 4, 8}}, 6 bits on average (MP6/A8) | {six} |"


def settings() -> Iterator[str]:
    def value(bits: str, setting: str, to: str) -> float:
        return one("mobilenetv2", "zeroq", bits, {setting: to})["value"]

    usual = {bits: one("mobilenetv2", "zeroq", bits)["value"] for bits in ("W8/A8", "MP4/A8")}
    as_good = [("distill.count", "1"), ("distill.count", "64")]
    as_good += [("distill.iterations", "50"), ("distill.iterations", "1000")]
    as_good += [("distill.learning_rate", rate) for rate in ("0.05", "0.1", "0.2", "1.0")]
    for bits in usual:
        found = [usual[bits], *(value(bits, *setting) for setting in as_good)]
        assert max(found) - min(found) <= CHANCE["top1"]
    yield f"any learning rate from 0.05 to 1 as good as the published 0.5: all lie within {CHANCE['top1']} points"
    assert all(value(bits, "distill.size", "24") >= usual[bits] for bits in usual)
    lost = [usual[bits] - value(bits, "distill.size", "16") for bits in usual]
    yield f"Those of 16 pixels cost {lost[0]:.1f} points at W8/A8 and {lost[1]:.1f} at MP4/A8"
    published, cut, bounded, batch = (
        score("mobilenetv2", "zeroq", "W4/A4", own)
        for own in ({}, {"percentile": "99.9"}, BOUNDED, {"distill.statistics": "batch"})
    )
    assert [len(found.values) for found in (published, cut, bounded, batch)] == [5, 5, 5, 5]
    yield f"{published} become {cut} where {100 - 99.9:.1f} % of each activation's values are cut"
    yield f"and {bounded} with `distill=bounded`"
    yield f"(`distill.statistics=batch`) gives {batch}"


def statistics() -> Iterator[str]:
    """What EfficientNet-Lite0's BatchNorm layers recorded."""
    norms = dict(efficientnet_lite.load("efficientnet_lite0").module.named_modules())
    # The first block does not widen.
    widening = [norm for name, norm in norms.items() if re.fullmatch(r"blocks\.[1-6]\.\d+\.bn1", name)]
    typical = [norm.running_var.sqrt().median().item() for norm in widening]
    yield f"the median standard deviation of a channel lies between {min(typical):.1f} and {max(typical):.1f}"
    yield f"up to {max(norm.num_features for norm in widening):,} channels of such a layer"
