"""The score of a network on a test set, and of the float network once for all runs."""

import copy
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import nn

from experiments.core.progress import progress_bar
from experiments.core.sources import Dataset
from zeroq.evaluation import classification, detection
from zeroq.export.integer_arithmetic import integer_arithmetic
from zeroq.mixed_precision.divergence import divergence
from zeroq.mixed_precision.outputs import class_scores
from zeroq.modules import channels_last, evaluating, model_device
from zeroq.networks.pretrained import PretrainedNetwork
from zeroq.parallel import on_devices, rank_and_size
from zeroq.pipeline import RunStage, Stage
from zeroq.quantization.convert import Placement, activation_quantizers

Score = classification.Classification | detection.Detection


def score(model: nn.Module, network: PretrainedNetwork, dataset: Dataset, name: str) -> Score:
    """Accuracy and predictions, or mean average precision, on the test set; shared among the visible GPUs.

    ``model`` stands in for ``network.module``; ``name`` is that of the progress bar.
    """
    devices = devices_beside(model_device(model))
    with channels_last(model, network.input.shape):
        moved = model if len(devices) == 1 else copy.deepcopy(model).cpu()
        return on_devices(devices, score_on, moved, dataset, network.detector, name)


def float_score(network: PretrainedNetwork, dataset: Dataset, run_stage: RunStage) -> Score:
    """The float network's score, measured once for all runs."""

    def compute(progress: Callable[[int, int], None]) -> Score:
        return score(network.module, network, dataset, "evaluate FP32")

    inputs = {
        "network": network.module,
        "data": dataset.name,
        "images": dataset.digest(),
        "input": asdict(network.input),
    }
    kind = classification.Classification if network.detector is None else detection.Detection
    return run_stage(Stage("float", compute, inputs, pack=asdict, unpack=lambda stored: kind(**stored)))


def simulation(quantized: nn.Module, placement: Placement) -> nn.Module:
    """What is scored: the quantized network, with placement ``integer`` in the arithmetic of an integer runtime.

    Ranges that are each batch's own (method naive) have no such runtime.
    """
    own_ranges = any(quantizer.dynamic for quantizer in activation_quantizers(quantized).values())
    return integer_arithmetic(quantized) if placement == "integer" and not own_ranges else quantized


def output_divergence(module: nn.Module, quantized: nn.Module, images: torch.Tensor) -> float:
    """How far the quantized network's class scores are from the float one's on calibration images: KL in nats."""
    with evaluating(module), evaluating(quantized), torch.inference_mode():
        return divergence(class_scores(module, images), class_scores(quantized, images), "forward")


def devices_beside(device: torch.device) -> list[str]:
    """The devices that share a run's work: all GPUs where it is on any of them (CUDA_VISIBLE_DEVICES chooses)."""
    if device.type != "cuda":
        return [str(device)]
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def score_on(device: str, model: nn.Module, dataset: Dataset, detector: Callable | None, name: str) -> Score:
    """The score of a model on a device, of all of its data, of which this process does its share."""
    model.to(device)
    total, (rank, processes), done = len(dataset), rank_and_size(), 0
    with progress_bar(name, shown=rank == 0) as progress:

        def on_batch(count: int) -> None:
            nonlocal done
            done += count
            progress(min(done * processes, total), total)

        batches = dataset.batches()
        if detector is None:
            return classification.evaluate(model, batches, on_batch)
        return detection.evaluate(detector(model).to(device), batches, dataset.annotations(), on_batch)
