"""One run: distil, quantize, evaluate, record."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
import torch
from omegaconf import OmegaConf
from torch import nn
from torchvision.utils import save_image

from experiments import record, tracker
from experiments.cache import StageCache, fingerprint
from experiments.config import RunConfig
from experiments.progress import progress_bar
from experiments.sources import Dataset, load_dataset, load_network
from zeroq.errors import ZeroQError
from zeroq.evaluation.classification import Classification, evaluate
from zeroq.images.batch_norm import batch_norm_loss, batch_norms
from zeroq.images.distill import distill
from zeroq.images.noise import gaussian_images
from zeroq.networks.pretrained import PretrainedNetwork
from zeroq.pipeline import Progress, QuantizationResult, quantize_naively, quantize_with_images
from zeroq.precision.sensitivity import SensitivityTable
from zeroq.quantization.layers import weighted_layers
from zeroq.quantization.size import average_bits_for, size_mib


class Run:
    """The stages of one run, each timed, shown, and stored where other runs can use it."""

    def __init__(self, config: RunConfig, network: PretrainedNetwork, dataset: Dataset):
        self.config = config
        self.network = network
        self.dataset = dataset
        self.cache = StageCache(config.results / "cache")
        self.seconds = dict.fromkeys(("distill", "sensitivity", "allocate", "calibrate", "evaluate"), 0.0)
        self.losses: list[float] = []
        self._network_key = fingerprint(network.module)

    def calibration_images(self) -> torch.Tensor | None:
        """The method's images, in the network's normalised input space."""
        method, count, shape = self.config.method, self.config.distill.count, self.network.input.shape
        if method.images == "none":
            return None
        if method.images == "gaussian":
            return gaussian_images(shape, count, seed=self.config.seed)
        if method.images == "real":
            training = load_dataset(self.config.data, self.network.input, train=True)
            return training.sample(count, seed=self.config.seed)
        if method.images == "distilled":
            return self._distilled_images()
        raise ZeroQError(f"method.images must be distilled, gaussian, real or none, not {method.images!r}")

    def quantize(self, images: torch.Tensor | None) -> QuantizationResult:
        """The method's quantized network."""
        config, module = self.config, self.network.module
        if images is None:
            return quantize_naively(
                module,
                config.bits.weight,
                config.bits.activation,
                placement=config.placement,
                symmetric=config.symmetric,
            )
        return quantize_with_images(
            module,
            images,
            self.weight_bits,
            config.bits.activation,
            config.bits.mixed,
            candidates=config.bits.candidates,
            direction=config.sensitivity_direction,
            refine=config.bits.refine,
            placement=config.placement,
            per_channel=config.method.per_channel,
            symmetric=config.symmetric,
            percentile=config.percentile,
            run_stage=self._run_stage(images),
        )

    @property
    def weight_bits(self) -> float:
        """Bits of every weight, or their mean where the budget is in MiB."""
        budget = self.config.bits.size_mib
        return self.config.bits.weight if budget is None else average_bits_for(self.network.module, budget)

    def score(self, model: nn.Module, name: str) -> Classification:
        """Top-1, top-5 and predictions on the test set."""
        total = len(self.dataset)
        with progress_bar(name) as progress:
            done = 0

            def on_batch(count: int) -> None:
                nonlocal done
                done += count
                progress(done, total)

            return evaluate(model, self.dataset.batches(), on_batch)

    def float_score(self) -> Classification:
        """The float network's score, measured once for all runs."""

        def compute() -> dict[str, Any]:
            return asdict(self.score(self.network.module, "evaluate FP32"))

        key = {
            "stage": "float",
            "network": self._network_key,
            "data": self.config.data.name,
            "root": str(self.config.data.root.resolve()),
            "images": len(self.dataset),
        }
        return Classification(**self.cache.get(key, compute)[0])

    def _distilled_images(self) -> torch.Tensor:
        settings = self.config.distill

        def compute() -> dict[str, Any]:
            losses: list[float] = []
            with progress_bar("distill") as progress:

                def on_iteration(iteration: int, loss: float) -> None:
                    losses.append(loss)
                    progress(iteration + 1, settings.iterations)

                images = distill(
                    self.network.module,
                    self.network.input.shape,
                    settings.count,
                    settings.iterations,
                    seed=self.config.seed,
                    statistics=settings.statistics,
                    learning_rate=settings.learning_rate,
                    on_iteration=on_iteration,
                )
            return {"images": images.cpu(), "losses": losses}

        key = {"stage": "distill", "network": self._network_key, "seed": self.config.seed, **asdict(settings)}
        stored, self.seconds["distill"] = self.cache.get(key, compute)
        self.losses = stored["losses"]
        return stored["images"]

    def _run_stage(self, images: torch.Tensor) -> Callable[[str, Callable[[Progress], Any]], Any]:
        image_key = fingerprint(nn.ParameterDict({"images": images}))

        def shown(name: str, compute: Callable[[Progress], Any]) -> Any:
            with progress_bar(name) as progress:
                return compute(progress)

        def run_stage(name: str, compute: Callable[[Progress], Any]) -> Any:
            if name == "sensitivity":
                key = {
                    "stage": name,
                    "network": self._network_key,
                    "images": image_key,
                    "candidates": sorted(self.config.bits.candidates),
                    "direction": self.config.sensitivity_direction,
                    "per_channel": self.config.method.per_channel,
                    "symmetric": self.config.symmetric,
                }
                stored, self.seconds[name] = self.cache.get(key, lambda: shown(name, compute).to_plain())
                return SensitivityTable.from_plain(stored)
            started = time.perf_counter()
            value = shown(name, compute)
            self.seconds[name] = time.perf_counter() - started
            return value

        return run_stage


def execute(config: RunConfig, name: str) -> dict[str, Any] | None:
    """Do a run and write its record; None where the record exists already and ``force`` is off."""
    runs = config.results / "runs"
    if (runs / name / "record.json").exists() and not config.force:
        return None
    with record.record_folder(runs, name) as folder, tracker.tracked(config, name, folder) as wandb_run:
        network = load_network(config.model)
        # Channels last is the faster layout for convolutions, on CPUs too.
        network.module.to(choose_device(config.device), memory_format=torch.channels_last)
        run = Run(config, network, load_dataset(config.data, network.input))
        reference = run.float_score()
        images = run.calibration_images()
        result = run.quantize(images)
        started = time.perf_counter()
        score = run.score(result.model, "evaluate")
        run.seconds["evaluate"] = time.perf_counter() - started

        content = record_content(config, run, result, score=score, reference=reference)
        sensitivity, frontier = result.sensitivity, frontier_table(result)
        picture = write_files(folder, config, content, run.losses, images, sensitivity, frontier)
        tracker.log_record(
            wandb_run, content, losses=run.losses, sensitivity=sensitivity, frontier=frontier, images=picture
        )
        record.write_json(folder / "record.json", content)
    return content


def record_content(
    config: RunConfig, run: Run, result: QuantizationResult, *, score: Classification, reference: Classification
) -> dict[str, Any]:
    """The numbers of ``record.json``."""
    module, report = run.network.module, result.report
    has_statistics = result.images is not None and bool(batch_norms(module))
    content = {
        "model": config.model.name,
        "dataset": config.data.name,
        "method": config.method.name,
        "w_bits": config.bits.weight_label,
        "a_bits": config.bits.activation,
        "placement": config.placement,
        "granularity": "per_channel" if config.method.per_channel else "per_tensor",
        "symmetric": config.symmetric,
        "percentile": config.percentile,
        "size_mib": report["size_mib"],
        "fp32_size_mib": size_mib(module),
        "mean_weight_bits": report["mean_weight_bits"],
        "metric": "top1",
        "value": round(score.top1, 4),
        "fp32_value": round(reference.top1, 4),
        "top5": round(score.top5, 4),
        "agreement": round(score.agreement(reference.predictions), 4),
        "seed": config.seed,
        "distill_loss": None,
        "calibration_loss": None,
        "gaussian_loss": None,
        "seconds": {stage: round(seconds, 3) for stage, seconds in run.seconds.items()},
        "needs_data": config.method.images == "real",
        "weight_layers": report["weight_layers"],
        "quantized_weight_layers": report["quantized_weight_layers"],
        "quantized_activations": report["quantized_activations"],
        "unreached_activations": report["unreached_activations"],
        "plan": dict(result.plan),
        "parameters": {name: layer.weight.numel() for name, layer in weighted_layers(module).items()},
        "versions": record.versions(),
        "device": str(next(module.parameters()).device),
        "git_commit": record.git_commit(),
    }
    if has_statistics:
        statistics = config.distill.statistics
        device = next(module.parameters()).device
        noise = gaussian_images(run.network.input.shape, config.distill.count, seed=config.seed)
        content["calibration_loss"] = batch_norm_loss(module, result.images.to(device), statistics=statistics)
        content["gaussian_loss"] = batch_norm_loss(module, noise.to(device), statistics=statistics)
        if config.method.images == "distilled":
            content["distill_loss"] = content["calibration_loss"]
    return content


def frontier_table(result: QuantizationResult) -> pandas.DataFrame | None:
    """Size in bits and sensitivity of every frontier point."""
    if result.frontier is None:
        return None
    return pandas.DataFrame({"size_bits": result.frontier.size_bits, "sensitivity": result.frontier.sensitivities})


def write_files(
    folder: Path,
    config: RunConfig,
    content: dict[str, Any],
    losses: list[float],
    images: torch.Tensor | None,
    sensitivity: pandas.DataFrame | None,
    frontier: pandas.DataFrame | None,
) -> Path | None:
    """Write the record's files; returns the picture of the calibration images, if there are any."""
    record.write_json(folder / "plan.json", content["plan"])
    OmegaConf.save(OmegaConf.structured(config), folder / "config.yaml")
    if losses:
        pandas.DataFrame({"loss": losses}).to_csv(folder / "distill_loss.csv", index_label="iteration")
    if sensitivity is not None:
        sensitivity.to_csv(folder / "sensitivity.csv")
    if frontier is not None:
        frontier.to_csv(folder / "frontier.csv", index=False)
    if images is None:
        return None
    picture = folder / ("distilled.png" if config.method.images == "distilled" else "calibration.png")
    save_image(images, picture, nrow=8, normalize=True, scale_each=True)
    return picture


def choose_device(name: str) -> torch.device:
    """The named device, or for ``auto`` a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ZeroQError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}; try device=cpu") from error
