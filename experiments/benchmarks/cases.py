"""What is timed: each stage, the networks that it is timed on, and its reference."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pandas
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn

from experiments.benchmarks.published_distillation import ITERATIONS, distill_as_published
from experiments.benchmarks.timing import Case
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.imagenet import ImageNet
from zeroq.distillation.batch_norm import batch_norm_loss
from zeroq.distillation.fast import distill_fast
from zeroq.distillation.recipe import recipe_by_name
from zeroq.evaluation.classification import evaluate
from zeroq.images import gaussian_images
from zeroq.layers import channel_axis, weighted_layers
from zeroq.mixed_precision.divergence import divergence
from zeroq.mixed_precision.estimated import DIRECTIONS, IMAGES
from zeroq.mixed_precision.frontier import pareto_frontier
from zeroq.mixed_precision.outputs import class_scores
from zeroq.mixed_precision.sensitivity import SensitivityTable, sensitivity
from zeroq.modules import evaluating, replaced_weight
from zeroq.networks import efficientnet_lite, pytorchcv_models, zoo
from zeroq.networks.pretrained import PretrainedNetwork
from zeroq.networks.pytorchcv_models import published_input
from zeroq.quantization.affine import quantized_weight
from zeroq.quantization.calibrate import calibrate
from zeroq.quantization.convert import convert
from zeroq.rounding.quantize import quantize

COUNT = 32
WIDTHS = (2, 4, 8)
LITE = "imagenet/efficientnet_lite0"
LARGE = "random/resnet18"  # at the paper's size, of which the weights take no part in the time
ZOO = tuple(f"fashion/{name}" for name in zoo.ARCHITECTURES)
FEW = ("fashion/resnet18", "fashion/mobilenetv2", "fashion/squeezenext")
# At the paper's size, on a GPU.
PAPER = ("imagenet/resnet50", "imagenet/mobilenetv2", "imagenet/resnet152")
SCORED, BATCH = 1000, 100
LAYERS = ((54, WIDTHS), (500, (2, 3, 4, 5, 6, 7, 8)))
DATA = Path("data")


def cases(
    stages: list[str], networks: list[str] | None, device: torch.device, photographs: Path | None
) -> Iterator[Case]:
    """The cases of some stages, by stage; ``networks`` None means each stage's own."""
    for stage in stages:
        if stage == "frontier":
            yield from frontiers(device)
            continue
        usual = STAGES[stage][0] if device.type == "cpu" else PAPER
        for name in networks or usual:
            network = load(name)
            network.module.to(device)
            yield from STAGES[stage][1](name, network, device)
    if "evaluate" in stages:
        yield from data_sets(device, photographs)


def load(name: str) -> PretrainedNetwork:
    """A network of the bundled zoo, or one for ImageNet, with random weights where only time counts."""
    source, _, architecture = name.partition("/")
    if name == LARGE:
        return PretrainedNetwork(pytorchcv_models.build(architecture, None).eval(), published_input(architecture))
    if name == LITE:
        return efficientnet_lite.load(architecture)
    return (zoo if source == "fashion" else pytorchcv_models).load(architecture)


def distillations(name: str, network: PretrainedNetwork, device: torch.device) -> Iterator[Case]:
    """distill=fast beside the published recipe executed as published."""
    shape, module = network.input.shape, network.module
    iterations = recipe_by_name("fast").iterations
    yield Case(
        "distill",
        name,
        f"{COUNT} images of {shape[1]} × {shape[2]}, {iterations} iterations instead of {ITERATIONS}",
        str(device),
        lambda: distill_fast(module, shape, COUNT),
        lambda: distill_as_published(module, shape, COUNT),
        "published",
        aim=0.2,
        # Forward, and backward to the images.
        flops=2 * iterations * sum(products(network, device, COUNT).values()),
        found=lambda images: {"loss": batch_norm_loss(module, images)},
        warm_up=False,
    )


def sensitivities(name: str, network: PretrainedNetwork, device: torch.device) -> Iterator[Case]:
    """Both modes beside a full forward for each layer and width."""
    module = network.module.to(memory_format=torch.channels_last)
    count = COUNT if is_small(network) or device.type == "cuda" else COUNT // 4
    images = gaussian_images(network.input.shape, count).to(device)
    work = list(products(network, device, count).values())
    after = sum(sum(work[index:]) for index in range(len(work)))
    estimate = (1 + DIRECTIONS + len(WIDTHS)) * sum(work) * min(IMAGES, count) / count
    size = f"{len(weighted_layers(module))} layers × {len(WIDTHS)} widths, {count} images"
    for mode, aim, flops in (("exact", 0.6, len(WIDTHS) * after), ("estimated", 0.1, estimate)):
        yield Case(
            f"sensitivity, {mode}",
            name,
            size,
            str(device),
            lambda mode=mode: sensitivity(module, images, WIDTHS, mode=mode),
            lambda: full_forwards(module, images),
            "full forwards",
            aim=aim,
            flops=flops,
        )


@torch.no_grad()
def full_forwards(module: nn.Module, images: torch.Tensor) -> list[float]:
    """Ω of each layer at each width as it is defined: one forward of the whole network for each."""
    values = []
    with evaluating(module):
        reference = class_scores(module, images)
        for layer in weighted_layers(module).values():
            for bits in WIDTHS:
                with replaced_weight(layer, quantized_weight(layer.weight, bits, axis=channel_axis(layer))):
                    values.append(divergence(reference, class_scores(module, images), "forward"))
    return values


def frontiers(device: torch.device) -> Iterator[Case]:
    """The whole exact frontier beside an integer program for one of its points."""
    for layers, widths in LAYERS:
        table = random_table(layers, widths)
        yield Case(
            "frontier",
            "random",
            f"{layers} layers × {len(widths)} widths",
            str(device),
            lambda table=table: pareto_frontier(table),
            lambda table=table: cheapest_plan(table),
            "scipy's milp, one budget",
        )


def random_table(layers: int, widths: tuple[int, ...], seed: int = 0) -> SensitivityTable:
    """Sensitivities that fall about fourfold a bit, as measured ones do, of convolutions of usual sizes."""
    generator = numpy.random.default_rng(seed)
    channels = 2 ** generator.integers(4, 10, (layers, 2))
    parameters = channels.prod(axis=1) * generator.choice([1, 9], layers)
    levels = generator.normal(-4, 2, (layers, 1)) - numpy.log(4) * (numpy.array(widths) - 2)
    costs = numpy.exp(levels + generator.normal(0, 0.3, (layers, len(widths))))
    names = [f"layer{index}" for index in range(layers)]
    values = pandas.DataFrame(costs, index=names, columns=list(widths))
    return SensitivityTable.of(values, dict(zip(names, parameters.tolist(), strict=True)))


def cheapest_plan(table: SensitivityTable, average_bits: float = 4) -> float:
    """The least sum of sensitivities within one budget, by integer programming."""
    layers, widths = table.shape
    sizes = numpy.repeat(list(table.parameters.values()), widths) * numpy.tile(table.columns, layers)
    one_each = numpy.kron(numpy.eye(layers), numpy.ones(widths))
    budget = average_bits * sum(table.parameters.values())
    constraints = [LinearConstraint(one_each, 1, 1), LinearConstraint(sizes, ub=budget)]
    return milp(table.to_numpy().ravel(), integrality=1, bounds=Bounds(0, 1), constraints=constraints).fun


def calibrations(name: str, network: PretrainedNetwork, device: torch.device) -> Iterator[Case]:
    """Recording and freezing the ranges beside the float network's forward."""
    module = network.module.to(memory_format=torch.channels_last)
    images = gaussian_images(network.input.shape, COUNT).to(device)
    quantized = convert(module, 8, 8)
    yield Case(
        "calibrate",
        name,
        f"{COUNT} images",
        str(device),
        lambda: calibrate(quantized, images),
        lambda: forwards(module, [images]),
        "float forward",
        flops=sum(products(network, device, COUNT).values()),
    )


def roundings(name: str, network: PretrainedNetwork, device: torch.device) -> Iterator[Case]:
    """A calibrated network by compensated rounding beside one by rounding to the nearest."""
    module = network.module.to(memory_format=torch.channels_last)
    images = gaussian_images(network.input.shape, COUNT).to(device)
    yield Case(
        "rounding, compensated",
        name,
        f"{len(weighted_layers(module))} layers, {COUNT} images of {images.shape[2]} × {images.shape[3]}",
        str(device),
        lambda: quantize(module, 4, 8, rounding="compensated", images=images),
        lambda: calibrate(quantize(module, 4, 8), images),
        "to the nearest",
        warm_up=False,
    )


def evaluations(name: str, network: PretrainedNetwork, device: torch.device) -> Iterator[Case]:
    """A simulated network's forward beside the float one's."""
    module = network.module.to(memory_format=torch.channels_last)
    scored, batch = (SCORED, BATCH) if is_small(network) else (SCORED // 10, BATCH // 4)
    batches = gaussian_images(network.input.shape, scored).to(device).split(batch)
    for placement in ("layer_inputs", "after_relu"):
        quantized = convert(module, 8, 8, placement)
        calibrate(quantized, batches[0])
        yield Case(
            f"evaluate, {placement}",
            name,
            f"{scored} images in batches of {batch}",
            str(device),
            lambda quantized=quantized: forwards(quantized, batches),
            lambda: forwards(module, batches),
            "float forward",
            aim=1.4,
            flops=sum(products(network, device, scored).values()),
        )


def is_small(network: PretrainedNetwork) -> bool:
    """Whether images are small; photographs of 224 pixels take ten times the time and the memory."""
    return network.input.shape[1] < 200


@torch.inference_mode()
def forwards(module: nn.Module, batches: list[torch.Tensor]) -> None:
    """The network's outputs for all batches."""
    with evaluating(module):
        for batch in batches:
            module(batch)


def data_sets(device: torch.device, photographs: Path | None) -> Iterator[Case]:
    """A whole test set's score, and the share of the time that the network waits for images."""
    found = [("fashion/mobilenetv2", lambda specification: FashionMNIST(DATA, specification))]
    if photographs:
        found.append((LITE, lambda specification: ImageNet(photographs, specification)))
    for name, data in found:
        network = load(name)
        module = network.module.to(device=device, memory_format=torch.channels_last)
        images = data(network.input)
        quantized = convert(module, 8, 8)
        calibrate(quantized, gaussian_images(network.input.shape, COUNT).to(device))
        yield Case(
            "evaluate, all of the test set",
            name,
            f"{len(images)} images",
            str(device),
            lambda quantized=quantized, images=images: waiting_share(quantized, images),
            found=lambda share: {"share of the time that the network waits": share},
            warm_up=False,
        )


def waiting_share(quantized: nn.Module, images: FashionMNIST | ImageNet) -> float:
    """Score a test set; the share of the time spent waiting for its images."""
    waited = 0.0

    def watched() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        nonlocal waited
        batches = iter(images.batches())
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            waited += time.perf_counter() - started
            if batch is None:
                return
            yield batch

    started = time.perf_counter()
    evaluate(quantized, watched())
    return waited / (time.perf_counter() - started)


def products(network: PretrainedNetwork, device: torch.device, images: int) -> dict[str, float]:
    """Floating-point operations of each Conv and Linear layer for some images, in order of execution."""
    work: dict[str, float] = {}

    def count(name: str) -> Callable:
        def hook(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            work[name] = work.get(name, 0.0) + 2.0 * images * output.numel() * layer.weight[0].numel()

        return hook

    handles = [layer.register_forward_hook(count(name)) for name, layer in weighted_layers(network.module).items()]
    try:
        forwards(network.module, [torch.zeros(1, *network.input.shape, device=device)])
    finally:
        for handle in handles:
            handle.remove()
    return work


# Stage → its networks, and the function that makes its cases.
STAGES = {
    "distill": (FEW, distillations),
    "sensitivity": ((*ZOO, LITE), sensitivities),
    "frontier": ((), frontiers),
    "rounding": ((*FEW, LARGE), roundings),
    "calibrate": ((*FEW, "fashion/resnet50"), calibrations),
    "evaluate": ((*FEW, "fashion/resnet50", LITE), evaluations),
}
