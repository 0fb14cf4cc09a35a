"""The stages of one run, each timed, shown, and taken from the cache where another run computed it."""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict
from math import ceil
from typing import Any

import torch
from torch import nn

from experiments.core.config import RunConfig
from experiments.core.progress import progress_bar
from experiments.core.record import STAGES
from experiments.core.sources import Dataset, load_dataset
from experiments.core.store import StageCache, fingerprint, source_fingerprint
from zeroq.evaluation import classification, detection
from zeroq.export.integer_arithmetic import integer_arithmetic
from zeroq.images import gaussian_images
from zeroq.mixed_precision.sensitivity import SensitivityTable
from zeroq.modules import model_device
from zeroq.networks.pretrained import PretrainedNetwork
from zeroq.parallel import on_devices, rank_and_size
from zeroq.pipeline import (
    Progress,
    QuantizationResult,
    distill_recording,
    quantize_naively,
    quantize_with_dfq,
    quantize_with_images,
)
from zeroq.quantization.convert import activation_quantizers
from zeroq.quantization.size import average_bits_for
from zeroq.settings import Settings

Score = classification.Classification | detection.Detection


class Run:
    """The stages of one run, each timed, shown, and stored where other runs can use it."""

    def __init__(self, config: RunConfig, network: PretrainedNetwork, dataset: Dataset):
        self.config = config
        self.network = network
        self.dataset = dataset
        self.cache = StageCache(config.outputs / "cache")
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.losses: list[float] = []
        self.settings = settings_of(config, network.module)
        self.settings.check(network.module)
        self.network_fingerprint = fingerprint(network.module)
        self._network_key = {
            "network": self.network_fingerprint,
            "device": str(model_device(network.module)),
            "torch": torch.__version__,
            "zeroq": source_fingerprint(),
        }
        self._image_key: str | None = None

    def calibration_images(self) -> torch.Tensor | None:
        """The method's images, in the network's normalised input space."""
        method, count, shape = self.config.method, self.config.distill.count, self.network.input.shape
        if method.images == "none":
            return None
        if method.images == "gaussian":
            return gaussian_images(shape, count, seed=self.config.seed)
        if method.images == "real":
            training = load_dataset(self.config.data, self.network, train=True)
            return training.sample(count, seed=self.config.seed)
        return self._distilled_images()

    def quantize(self, images: torch.Tensor | None) -> QuantizationResult:
        """The method's quantized network."""
        config, module, settings = self.config, self.network.module, self.settings
        if images is not None:
            self._image_key = fingerprint(nn.ParameterDict({"images": images}))
        if steps := config.method.steps:
            return quantize_with_dfq(
                module,
                self.network.input.shape,
                settings,
                steps,
                limits=self.network.input.limits,
                images=images,
                ranges_from_images=config.method.ranges == "images",
                run_stage=self._run_stage,
            )
        if images is None:
            return quantize_naively(
                module,
                config.bits.weight,
                config.bits.activation,
                placement=settings.placement,
                per_channel=settings.per_channel,
                symmetric=settings.symmetric,
            )
        return quantize_with_images(module, images, settings, run_stage=self._run_stage)

    def simulation(self, result: QuantizationResult) -> nn.Module:
        """What is scored: the quantized network, with placement ``integer`` in the arithmetic of an integer runtime.

        Ranges that are each batch's own (method naive) have no such runtime.
        """
        own_ranges = any(quantizer.dynamic for quantizer in activation_quantizers(result.model).values())
        if self.config.placement != "integer" or own_ranges:
            return result.model
        return integer_arithmetic(result.model)

    @property
    def weight_label(self) -> str:
        """``8`` for uniform widths, ``MP4`` for mixed precision of at most 4 bits on average."""
        if not self.config.bits.mixed:
            return str(self.config.bits.weight)
        return f"MP{ceil(100 * round(self.settings.weight_bits, 6)) / 100:g}"

    def score(self, model: nn.Module, name: str) -> Score:
        """Accuracy and predictions, or mean average precision, on the test set; shared among the visible GPUs."""
        devices = devices_beside(model_device(model))
        moved = model if len(devices) == 1 else copy.deepcopy(model).cpu()
        return on_devices(devices, score_on, moved, self.dataset, self.network.detector, name)

    def float_score(self) -> Score:
        """The float network's score, measured once for all runs."""

        def compute() -> dict[str, Any]:
            return asdict(self.score(self.network.module, "evaluate FP32"))

        key = self._network_key | {
            "stage": "float",
            "data": self.config.data.name,
            "images": self.dataset.digest(),
            "input": asdict(self.network.input),
        }
        kind = classification.Classification if self.network.detector is None else detection.Detection
        return kind(**self.cache.get(key, compute)[0])

    def _distilled_images(self) -> torch.Tensor:
        settings = self.config.distill
        channels, height, width = self.network.input.shape
        images, self.losses = distill_recording(
            self.network.module,
            (channels, settings.size or height, settings.size or width),
            settings.count,
            settings.iterations,
            recipe=settings.recipe,
            seed=self.config.seed,
            statistics=settings.statistics,
            learning_rate=settings.learning_rate,
            limits=self.network.input.limits if settings.bounded else None,
            run_stage=self._run_stage,
        )
        return images

    def _run_stage(self, name: str, compute: Callable[[Progress], Any]) -> Any:
        """Show and time a stage, or take its result from the cache."""

        def shown() -> Any:
            with progress_bar(name) as progress:
                return compute(progress)

        config = self.config
        if name == "distill":
            key = self._network_key | {"stage": name, "seed": config.seed, **asdict(config.distill)}
            key["input"] = asdict(self.network.input)

            def distilled() -> dict[str, Any]:
                images, losses = shown()
                return {"images": images.cpu(), "losses": losses}

            stored, self.seconds[name] = self.cache.get(key, distilled)
            return stored["images"], stored["losses"]
        if name == "sensitivity":
            key = self._network_key | {
                "stage": name,
                "images": self._image_key,
                "candidates": sorted(self.settings.candidates),
                "mode": self.settings.sensitivity,
                "direction": self.settings.direction,
                **self.settings.granularity,
                "steps": config.method.steps,
            }
            stored, self.seconds[name] = self.cache.get(key, lambda: shown().to_plain())
            return SensitivityTable.from_plain(stored)
        started = time.perf_counter()
        value = shown()
        self.seconds[name] = time.perf_counter() - started
        return value


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


def settings_of(config: RunConfig, module: nn.Module) -> Settings:
    """The quantization settings; a budget in MiB becomes mean weight bits, at most those of the widest candidate."""
    bits = config.bits
    mean_bits = bits.weight
    if bits.size_mib is not None:
        mean_bits = min(average_bits_for(module, bits.size_mib), max(bits.candidates, default=0))
    return Settings(
        mean_bits,
        bits.activation,
        bits.mixed,
        candidates=bits.candidates,
        direction=config.sensitivity_direction,
        refine=bits.refine,
        placement=config.placement,
        per_channel=config.method.per_channel,
        symmetric=config.symmetric,
        percentile=config.percentile,
        bias_correction=config.method.bias_correction,
        devices=devices_beside(model_device(module)),
        sensitivity=config.sensitivity,
    )
