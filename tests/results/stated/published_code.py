"""What docs/methods.md says of the published code: its settings, and what records say each is worth."""

import inspect
from collections.abc import Iterator
from math import ceil

from pytorchcv.model_provider import get_model
from torch import fx, nn

from experiments.analysis.reported import read_reported
from tests.results.facts import BUNDLED, TITLES, float_score, one, score
from zeroq.distillation import published_2020_01, published_detection
from zeroq.modules import batch_norms
from zeroq.networks import zoo
from zeroq.networks.pytorchcv_models import published_input
from zeroq.quantization.size import size_mib

SMALL = ("resnet18", "mobilenetv2", "squeezenext")
BITS = ("W8/A8", "W4/A8", "W4/A4")
QUANTIZED, MIN_MAX = {"calibration": "quantized"}, {"weight_range": "min_max"}
OLDER = {"distill": "published_2020_01"}
PUBLISHED_PLACEMENT = {"placement": "after_relu"}


def passages() -> Iterator[str]:
    yield from settings()
    yield from sizes()
    yield from quantizers_and_recipes()
    yield from detector()
    yield from own_eps()


def settings() -> Iterator[str]:
    older, detection = (
        {name: each.default for name, each in inspect.signature(function).parameters.items()}
        for function in (published_2020_01.distill_2020_01, published_detection.distill_for_detection)
    )
    yield f"| learning rate {older['learning_rate']}, until the loss is low enough |"
    assert detection["count"] == 1
    yield f"one image, {detection['iterations']} iterations, learning rate {detection['learning_rate']}, no schedule"
    enough = f"{published_2020_01.ENOUGH:g}"
    yield f"at most {enough} for each BatchNorm layer and {enough} for the image"
    yield f"resized to {published_input('inceptionv3').resize} pixels"
    yield f"pytorchcv's own scores are of {ceil(299 / 0.875)}"
    assert all(pairs_by_number(zoo.load(name).module) for name in BUNDLED)


def pairs_by_number(model: nn.Module) -> bool:
    """Whether each BatchNorm layer's input is the output of the convolution of the same number."""
    norms = batch_norms(model)
    nodes = fx.symbolic_trace(model).graph.nodes
    before = {node.target: node.args[0].target for node in nodes if node.op == "call_module" and node.target in norms}
    convolutions = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return before == dict(zip(norms, convolutions, strict=False))


def sizes() -> Iterator[str]:
    network = get_model("shufflenet_g1_w1")
    alone = size_mib(network)
    statistics = sum(buffer.numel() for buffer in network.buffers() if buffer.is_floating_point())
    both = alone + statistics * 4 / 2**20
    reported = read_reported().query("model == 'imagenet/shufflenet' and column == 'ZeroQ' and size_mib.notna()")
    mp6, mp4 = (reported[reported.bits.str.startswith(each)].size_mib.iloc[0] for each in ("MP6", "MP4"))
    assert (f"{both * 6 / 32:.2f}", f"{both * 4 / 32:.2f}") == (f"{mp6:.2f}", f"{mp4:.2f}")
    yield f"{mp6:.2f} and {mp4:.2f} MiB at MP6 and MP4 are those of {both:.2f} MiB at 32 bits"
    yield f"alone have {alone:.2f} MiB, which gives {alone * 6 / 32:.2f} and {alone * 4 / 32:.2f}"


def as_published(model: str, bits: str, settings: dict[str, str], method: str = "zeroq") -> str:
    return str(score(model, method, bits, {"distill.count": "64", **settings}, **PUBLISHED_PLACEMENT))


def quantizers_and_recipes() -> Iterator[str]:
    for model in SMALL:
        for bits in BITS:
            cells = [as_published(model, bits, each) for each in ({}, QUANTIZED, MIN_MAX, QUANTIZED | MIN_MAX, OLDER)]
            cells.append(as_published(model, bits, {}, "uniform_noise"))
            yield f"| {TITLES[model]} | {bits} | {' | '.join(cells)} |"


def detector() -> Iterator[str]:
    found = [
        score("retinanet", "zeroq", bits, {"distill": "published_detection"}, **PUBLISHED_PLACEMENT)
        for bits in ("W8/A8", "W4/A4")
    ]
    yield f"RetinaNet has {found[0]} mAP at W8/A8 and {found[1]} at W4/A4 (FP32 {float_score('retinanet'):.3f})"


def own_eps() -> Iterator[str]:
    assert {norm.eps for norm in batch_norms(zoo.load("inceptionv3").module).values()} == {1e-3}
    own, published = (
        [one("inceptionv3", "zeroq", bits, each) for bits in ("W8/A8", "W4/A4")]
        for each in ({}, {"distill": "published_2020_02"})
    )
    losses = [each[0]["distill_loss"] for each in (own, published)]
    yield f"a loss of {losses[1]:.2f} instead of {losses[0]:.2f}"
    (eight, four), (eight_own, four_own) = ([f"{each['value']:.2f}" for each in pair] for pair in (published, own))
    yield f"{eight} instead of {eight_own} at W8/A8, {four} instead of {four_own} at W4/A4"
