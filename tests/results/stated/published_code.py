"""What docs/methods.md says of the published code: its settings, and what records say each is worth."""

import inspect
from collections.abc import Iterator
from math import ceil, sqrt

import torch
from pytorchcv.model_provider import get_model
from torch import fx, nn

from experiments.analysis.reported import read_reported
from tests.results.facts import BUNDLED, TITLES, Score, committed, float_score, one, score, signed
from zeroq.distillation import published_2020_01, published_detection
from zeroq.distillation.batch_norm import batch_norm_inputs, statistics_loss
from zeroq.distillation.published import PUBLISHED_EPS
from zeroq.images import UNIFORM_LIMIT, gaussian_images
from zeroq.modules import batch_norms
from zeroq.networks import zoo
from zeroq.networks.pytorchcv_models import published_input
from zeroq.quantization.size import size_mib

SMALL = ("resnet18", "mobilenetv2", "squeezenext")
BITS = ("W8/A8", "W4/A4")
QUANTIZED, MIN_MAX = {"calibration": "quantized"}, {"weight_range": "min_max"}
OLDER = {"distill": "published_2020_01"}
PUBLISHED_PLACEMENT = {"placement": "after_relu"}


def passages() -> Iterator[str]:
    yield from settings()
    yield from sizes()
    yield from quantizers_and_recipes()
    yield from older_recipe()
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
    yield f"That noise, of standard deviation {UNIFORM_LIMIT / sqrt(3):.4f}"
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


def as_published(model: str, bits: str, settings: dict[str, str], method: str) -> Score:
    return score(model, method, bits, {"distill.count": "64", **settings}, **PUBLISHED_PLACEMENT)


def quantizers_and_recipes() -> Iterator[str]:
    ways: list[tuple[dict[str, str], str]] = [({}, "zeroq"), (QUANTIZED, "zeroq"), (MIN_MAX, "zeroq")]
    ways += [(QUANTIZED | MIN_MAX, "zeroq"), (OLDER, "zeroq"), ({}, "uniform_noise")]
    found = {(each, bits): [as_published(each, bits, *way) for way in ways] for each in SMALL for bits in BITS}
    for (model, bits), scores in found.items():
        yield f"| {TITLES[model]} | {bits} | {' | '.join(map(str, scores))} |"
    eight, four = (
        [score - scores[0] for (_, bits), scores in found.items() if bits == each for score in scores[1:4]]
        for each in BITS
    )
    largest = max(map(abs, eight))
    yield f"by {largest:.2f} points at most at W8/A8, and by {signed(min(four), 2)} to {max(four):.2f} at W4/A4"


def older_recipe() -> Iterator[str]:
    """How soon its loss is low enough."""
    lengths = []
    for model in SMALL:
        record = one(model, "zeroq", "W8/A8", {"distill.count": "64", **OLDER}, **PUBLISHED_PLACEMENT)
        lengths.append(len(committed().losses(record)))
    assert lengths == [4, 1, 1]
    yield "after one iteration on MobileNetV2 and SqueezeNext, and after four on ResNet18"


def detector() -> Iterator[str]:
    found = [
        score("retinanet", "zeroq", bits, {"distill": "published_detection"}, **PUBLISHED_PLACEMENT)
        for bits in ("W8/A8", "W4/A4")
    ]
    yield f"RetinaNet has {found[0]} mAP at W8/A8 and {found[1]} at W4/A4 (FP32 {float_score('retinanet'):.3f})"


def own_eps() -> Iterator[str]:
    networks = {name: zoo.load(name) for name in BUNDLED}
    eps = {name: {norm.eps for norm in batch_norms(network.module).values()} for name, network in networks.items()}
    assert eps == {name: {1e-3 if name == "inceptionv3" else 1e-5} for name in BUNDLED}
    network = networks["inceptionv3"]
    noise = gaussian_images(network.input.shape, 8)
    with torch.no_grad(), batch_norm_inputs(network.module) as recorded:
        network.module(noise)
    own, published = (statistics_loss(noise, recorded, "image", eps=each).item() for each in (None, PUBLISHED_EPS))
    yield f"the loss of Gaussian noise is {100 * (published / own - 1):.0f} % higher"
    own, published = (
        [one("inceptionv3", "zeroq", bits, each) for bits in BITS] for each in ({}, {"distill": "published_2020_02"})
    )
    losses = [f"{records[0]['distill_loss']:.2f}" for records in (published, own)]
    yield f"a loss of {' instead of '.join(losses)}"
    (eight, four), (own_eight, own_four) = ([f"{each['value']:.2f}" for each in pair] for pair in (published, own))
    yield f"{eight} instead of {own_eight} at W8/A8, {four} instead of {own_four} at W4/A4"
