"""Learned rounding: each block's integers and activation steps are learned until it gives what the float block gives.

Source: AdaRound (Nagel et al. 2020) and BRECQ (Li et al. 2021) learn integers, of layers and of blocks; QDrop (Wei et
al. 2022) drops the quantization of activations at random; LSQ (Esser et al. 2020) learns steps; GENIE (Jeon et al.
2023) learns both at once, on distilled images. Those take tens of thousands of steps from rounding to the nearest; here
compensated rounding has done most of it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from zeroq.borrowing import copied
from zeroq.graph.blocks import Block, blocks, by_image
from zeroq.graph.tracing import trace
from zeroq.images import check_images, shape_of
from zeroq.layers import WeightedLayer, channel_axis, is_affine, weighted_layer, weighted_layers
from zeroq.modules import model_device
from zeroq.quantization.activations import ActivationQuantizer
from zeroq.quantization.affine import FLOAT_BITS, AffineParameters, Granularity, WeightRange, weight_parameters
from zeroq.quantization.convert import activation_quantizers
from zeroq.quantization.layers import store_weight
from zeroq.quantization.permanent_weights import with_permanent_weights
from zeroq.rounding.learnable import DROPPED, LearnedStep, learnable

# Layers of a block, as a residual one has.
LAYERS = 3
# Steps of Adam for each block, each on so many images.
ITERATIONS = 200
BATCH = 8
# In steps of a weight's grid, and of the logarithm of an activation's step.
WEIGHT_RATE = 0.01
STEP_RATE = 0.001
# One of so many images tells whether what was learned on the others is better.
HELD_OUT = 4


@torch.inference_mode(False)
def learn_rounding(
    quantized: nn.Module,
    model: nn.Module,
    images: torch.Tensor,
    *,
    per_channel: bool = True,
    symmetric: bool = False,
    weight_range: WeightRange = "with_zero",
    iterations: int = ITERATIONS,
    seed: int = 0,
    on_block: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Learn the integers of weights and the steps of activations, block by block in order of execution.

    A block is to give, for what the quantized blocks before it hand on, what the float one gives for what the float
    ones do. It is learned from images and their mirror images, but for every fourth, on which it has to err less than
    before: otherwise it stays as it was. Biases stay, and so does what several blocks have in common.

    Args:
        quantized: what ``quantize`` made of ``model`` by compensated rounding; it is changed in place.
        model: the float network.
        images: float [N, C, H, W], normalised.
        per_channel, symmetric, weight_range: as in ``quantize``, when it was made.
        iterations: steps of Adam for each block.
        seed: of the batches, and of the values that are dropped.
        on_block: receives (blocks done, blocks in all).

    Returns:
        By a block's first layer, its squared error on the images held out as a share of that before; 1 where it stays.

    Raises ZeroQError for a network that cannot be traced.
    """
    check_images(images)
    seen = images.detach().to(model_device(model), torch.float32, copy=True)
    student = copied(quantized).float().requires_grad_(False)
    model = with_permanent_weights(model)
    teacher = unquantized(student, model)
    layers, quantizers = weighted_layers(student), activation_quantizers(student)
    with torch.no_grad():
        chain = by_image(blocks(trace(student, shape_of(images)).graph, layers, most=LAYERS), teacher, seen[:1])
    uses = Counter(module for block in chain for module in block.modules)
    own_layers = {name: layer for name, layer in layers.items() if uses[name] == 1}
    how: Granularity = {"per_channel": per_channel, "symmetric": symmetric, "weight_range": weight_range}
    grids = grids_of(own_layers, model, how)
    float_weights = {name: weighted_layer(teacher, name).weight for name in grids}
    generator = torch.Generator(model_device(student)).manual_seed(seed)
    shares = {}
    with torch.enable_grad():
        inputs = float_inputs = torch.cat([seen, seen.flip(3)])
        held_out = torch.arange(len(images), device=seen.device).repeat(2) % HELD_OUT == 0
        for done, block in enumerate(chain, start=1):
            targets = outputs(block, teacher, float_inputs)
            lesson = Lesson(block, inputs, float_inputs, targets, held_out)
            own = {name: grid for name, grid in grids.items() if name in block.layers}
            inside = quantizers_of({name for name in block.modules if uses[name] == 1}, quantizers)
            if own:
                with learnable(student, float_weights, own, inside, generator) as (weights, steps):
                    shares[block.layers[0]] = learn(lesson, student, weights, steps, iterations, generator)
            if done < len(chain):
                (inputs, *_), (float_inputs, *_) = outputs(block, student, inputs), targets
            on_block(done, len(chain))
    with torch.no_grad():
        for name, grid in grids.items():
            layer = weighted_layer(quantized, name)
            store_weight(layer, layers[name].weight, grid, int(layer.get_buffer("weight_bits")))
        for name, quantizer in activation_quantizers(quantized).items():
            quantizer.scale.copy_(quantizers[name].scale)
    return shares


@dataclass(frozen=True)
class Lesson:
    """What a block is learned from.

    Its inputs as the quantized and as the float blocks hand them on, the float block's outputs for the latter, and
    which images are held out.
    """

    block: Block
    inputs: torch.Tensor
    float_inputs: torch.Tensor
    targets: list[torch.Tensor]
    held_out: torch.Tensor

    def error(self, network: nn.Module, inputs: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the block's outputs, in variances of what they should be, for some of the images."""
        found = tensors(self.block.run(network, inputs), len(inputs))
        errors = [
            (output - target[images]).square().mean() / target.var().clamp_min(torch.finfo(target.dtype).tiny)
            for output, target in zip(found, self.targets, strict=True)
        ]
        return torch.stack(errors).mean()

    @torch.no_grad()
    def error_held_out(self, network: nn.Module) -> float:
        """The error on the images that are not learned from."""
        parts = self.held_out.nonzero().flatten().split(BATCH)
        return sum(self.error(network, self.inputs[part], part).item() * len(part) for part in parts) / len(self.inputs)


def learn(
    lesson: Lesson,
    network: nn.Module,
    weights: Sequence[nn.Parameter],
    steps: Sequence[LearnedStep],
    iterations: int,
    generator: torch.Generator,
) -> float:
    """Learn a block of a network; gives its error on images held out as a share of that before, 1 where it stays."""
    before = lesson.error_held_out(network)
    if not before > 0:
        return 1.0
    start = [weight.detach().clone() for weight in weights]
    learned = (~lesson.held_out).nonzero().flatten()
    learned = learned if len(learned) else lesson.held_out.nonzero().flatten()  # of a single image
    groups = [
        {"params": list(weights), "lr": WEIGHT_RATE},
        {"params": [each.change for each in steps], "lr": STEP_RATE},
    ]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=iterations)
    for step in steps:
        step.train()
    for _ in range(iterations):
        chosen = torch.randperm(len(learned), generator=generator, device=learned.device)[:BATCH]
        images = learned[chosen]
        drawn = torch.rand(lesson.inputs[images].shape, generator=generator, device=learned.device)
        inputs = torch.where(drawn < DROPPED, lesson.float_inputs[images], lesson.inputs[images])
        optimizer.zero_grad()
        (lesson.error(network, inputs, images) / before).backward()
        optimizer.step()
        schedule.step()
    for step in steps:
        step.eval()
    after = lesson.error_held_out(network)
    if after < before:
        for step in steps:
            step.keep()
        return after / before
    with torch.no_grad():
        for weight, value in zip(weights, start, strict=True):
            weight.copy_(value)
    return 1.0


def unquantized(quantized: nn.Module, model: nn.Module) -> nn.Module:
    """A copy of a quantized network that computes what the float one does, in float32, with the same modules."""
    network, originals = copied(quantized), weighted_layers(model)
    for name, layer in weighted_layers(network).items():
        for role in ("weight", "bias"):
            own = getattr(originals[name], role)
            setattr(layer, role, own if own is None else nn.Parameter(own.detach().float(), requires_grad=False))
    for quantizer in activation_quantizers(network).values():
        quantizer.start_recording(None)  # values pass as they are
    return network


def grids_of(
    layers: Mapping[str, WeightedLayer], model: nn.Module, granularity: Granularity
) -> dict[str, AffineParameters]:
    """The grids of those quantized layers whose weight alone decides what they make of their input."""
    originals = weighted_layers(model)
    return {
        name: weight_parameters(
            originals[name].weight,
            int(layer.get_buffer("weight_bits")),
            axis=channel_axis(layer),
            **granularity,
        )
        for name, layer in layers.items()
        if layer.get_buffer("weight_bits") < FLOAT_BITS and is_affine(originals[name])
    }


def quantizers_of(modules: Collection[str], quantizers: Mapping[str, ActivationQuantizer]) -> list[str]:
    """The names of the quantizers that are among these modules or inside them, and have a range."""
    return [
        name
        for name, quantizer in quantizers.items()
        if quantizer.calibrated
        and not quantizer.dynamic
        and any(name == module or name.startswith(f"{module}.") for module in modules)
    ]


@torch.no_grad()
def outputs(block: Block, network: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """The ``tensors`` that a block of a network gives, of all images."""
    parts = [tensors(block.run(network, part), len(part)) for part in inputs.split(BATCH)]
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def tensors(output: Any, images: int) -> list[torch.Tensor]:
    """The float tensors of a block's output, however it holds them, that have a part for each of so many images."""
    leaves = [each for each in tree_leaves(output) if isinstance(each, torch.Tensor) and each.is_floating_point()]
    return [each for each in leaves if each.dim() and len(each) == images]
