"""One run: distil, quantize, evaluate, record."""

import json
import time
from dataclasses import asdict, astuple
from functools import cache
from pathlib import Path
from typing import Any

import pandas
import torch
import wandb
from omegaconf import OmegaConf
from torch import nn
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from experiments.core import record, tracker
from experiments.core.config import DataConfig, ModelConfig, RunConfig
from experiments.core.environment import choose_device, git_commit, versions
from experiments.core.progress import progress_bar
from experiments.core.sources import check_data, load_dataset, load_network
from experiments.core.stages import Run, Score
from experiments.core.store import claimed, fingerprint
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.datasets.photographs import check_readable
from zeroq.distillation.batch_norm import batch_norm_loss
from zeroq.errors import ZeroQError
from zeroq.evaluation import classification
from zeroq.images import gaussian_images
from zeroq.layers import weighted_layers
from zeroq.mixed_precision.divergence import class_scores, divergence
from zeroq.modules import batch_norms, evaluating, model_device
from zeroq.pipeline import QuantizationResult
from zeroq.quantization.size import size_mib

# In the picture of a record: sixteen small images, or two of 224 pixels, some 300 KB.
SHOWN_IMAGES = 16
SHOWN_PIXELS = 2**17
# Data whose licence (MIT) lets anyone pass them on.
FREE_DATA = (FashionMNIST.name, FashionScenes.name)


def execute(config: RunConfig, name: str, other_settings: dict[str, str]) -> record.Record | None:
    """Do a run and write its record; None where the record exists already and ``force`` is off.

    ``other_settings`` is what the run was told beyond model, method, bits and seed, for its record.
    """
    runs = config.outputs / "runs"
    with claimed(config.outputs / "cache", name):
        if (runs / name / "record.json").exists() and not config.force:
            check_same_inputs(config, runs / name)
            return None
        with record.record_folder(runs, name) as folder, tracker.tracked(config, name, folder) as wandb_run:
            return carry_out(config, other_settings, folder, wandb_run)


def carry_out(config: RunConfig, other_settings: dict[str, str], folder: Path, wandb_run: wandb.Run) -> record.Record:
    """Do a run's stages and write its record into a folder."""
    # What fails at once comes before downloads, and what takes seconds before what takes minutes.
    device = choose_device(config.device)
    check_data(config.data)
    if config.method.images == "real":
        check_data(config.data, train=True)
    network = load_network(config.model)
    network.module.to(device)
    dataset = load_dataset(config.data, network)
    run = Run(config, network, dataset)
    with progress_bar("check images") as progress:
        check_readable(dataset.files, progress)
    images = run.calibration_images()
    # The faster layout for inference on CPUs too, but not for a backward pass over few channels.
    network.module.to(memory_format=torch.channels_last)
    losses = statistics_losses(run, images)
    reference = run.float_score()
    result = run.quantize(images)
    started = time.perf_counter()
    simulated = run.simulation(result)
    score = run.score(simulated, "evaluate")
    run.seconds["evaluate"] = time.perf_counter() - started

    distance = None if images is None else output_divergence(network.module, simulated, images)

    content = record_content(run, result, other_settings, losses, distance=distance, score=score, reference=reference)
    sensitivity, frontier = result.sensitivity, frontier_table(result)
    picture = write_files(folder, config, run.losses, images, sensitivity)
    tracker.log_record(
        wandb_run, content, losses=run.losses, sensitivity=sensitivity, frontier=frontier, images=picture
    )
    record.write_json(folder / "record.json", content)
    return content


def check_same_inputs(config: RunConfig, folder: Path) -> None:
    """Raise ZeroQError for a damaged record, and for one of other weights or images than this run would use."""
    done = record.read_record(folder)
    now = inputs_of(astuple(config.model), astuple(config.data))
    for what, before in {"weights": done["network"], "number of test images": done["images"]}.items():
        if now[what] != before:
            raise ZeroQError(
                f"{folder} was made with other {what}; force=true replaces it, outputs=… keeps it and starts elsewhere"
            )


@cache
def inputs_of(model: tuple, data: tuple) -> dict[str, Any]:
    """What a run starts from; kept, since a sweep that goes on asks for the same network again and again."""
    network = load_network(ModelConfig(*model))
    return {
        "weights": fingerprint(network.module),
        "number of test images": len(load_dataset(DataConfig(*data), network)),
    }


def statistics_losses(run: Run, images: torch.Tensor | None) -> dict[str, float | None]:
    """The BatchNorm loss of a run's images, and of as many of noise; None without images or without BatchNorm."""
    config, module = run.config, run.network.module
    losses: dict[str, float | None] = dict.fromkeys(("distill_loss", "calibration_loss", "gaussian_loss"))
    if images is None or not batch_norms(module):
        return losses
    statistics = config.distill.statistics
    noise = gaussian_images(run.network.input.shape, config.distill.count, seed=config.seed)
    losses["calibration_loss"] = batch_norm_loss(module, images, statistics=statistics)
    losses["gaussian_loss"] = batch_norm_loss(module, noise, statistics=statistics)
    if config.method.images == "distilled":
        losses["distill_loss"] = losses["calibration_loss"]
    return losses


def output_divergence(module: nn.Module, quantized: nn.Module, images: torch.Tensor) -> float:
    """How far the quantized network's class scores are from the float one's on calibration images: KL in nats."""
    with evaluating(module), evaluating(quantized), torch.inference_mode():
        return divergence(class_scores(module, images), class_scores(quantized, images), "forward")


def record_content(
    run: Run,
    result: QuantizationResult,
    other_settings: dict[str, str],
    losses: dict[str, float | None],
    *,
    distance: float | None,
    score: Score,
    reference: Score,
) -> record.Record:
    """The numbers of ``record.json``."""
    config, module, report = run.config, run.network.module, result.report
    content: record.Record = {
        "schema": record.SCHEMA,
        "model": config.model.label,
        "dataset": config.data.name,
        "method": config.method.name,
        "w_bits": run.weight_label,
        "a_bits": config.bits.activation,
        "placement": config.placement,
        "granularity": "per_channel" if config.method.per_channel else "per_tensor",
        "settings": other_settings,
        "size_mib": report["size_mib"],
        "fp32_size_mib": size_mib(module),
        "mean_weight_bits": report["mean_weight_bits"],
        "metric": score.metric,
        "value": round(score.value, 4),
        "fp32_value": round(reference.value, 4),
        "top5": None,
        "agreement": None,
        "seed": config.seed,
        **losses,
        "divergence": distance,
        "seconds": {stage: round(seconds, 3) for stage, seconds in run.seconds.items()},
        "needs_data": config.method.images == "real",
        "weight_layers": report["weight_layers"],
        "quantized_weight_layers": report["quantized_weight_layers"],
        "quantized_activations": report["quantized_activations"],
        "unreached_activations": report["unreached_activations"],
        "skipped_steps": report.get("skipped_steps", []),
        "plan": dict(result.plan),
        "parameters": {name: layer.weight.numel() for name, layer in weighted_layers(module).items()},
        "versions": versions(),
        "device": str(model_device(module)),
        "network": run.network_fingerprint,
        "images": len(run.dataset),
        "git_commit": git_commit(),
    }
    if isinstance(score, classification.Classification):
        content["top5"] = round(score.top5, 4)
        content["agreement"] = round(score.agreement(reference.predictions), 6)
    return content


def frontier_table(result: QuantizationResult) -> pandas.DataFrame | None:
    """Size in bits and sensitivity of every frontier point."""
    if result.frontier is None:
        return None
    return pandas.DataFrame({"size_bits": result.frontier.size_bits, "sensitivity": result.frontier.sensitivities})


def write_files(
    folder: Path,
    config: RunConfig,
    losses: list[float],
    images: torch.Tensor | None,
    sensitivity: pandas.DataFrame | None,
) -> Path | None:
    """Write the record's files; returns the picture of the calibration images, if there is one.

    Real images are a data set's own, and not every data set may be passed on: only of those that may, there is one.
    """
    plain = json.loads(json.dumps(asdict(config), default=str))  # paths as words, which every YAML reader knows
    OmegaConf.save(OmegaConf.create(plain), folder / "config.yaml")
    if losses:
        pandas.DataFrame({"loss": losses}).to_csv(folder / "distill_loss.csv", index_label="iteration")
    if sensitivity is not None:
        sensitivity.to_csv(folder / "sensitivity.csv")
    if images is None or (config.method.images == "real" and config.data.name not in FREE_DATA):
        return None
    picture = folder / ("distilled.png" if config.method.images == "distilled" else "calibration.png")
    shown = min(SHOWN_IMAGES, max(1, SHOWN_PIXELS // images[0, 0].numel()))
    grid = make_grid(images[:shown], nrow=8, normalize=True, scale_each=True)
    # Three equal channels would triple the file.
    to_pil_image(grid[:1] if images.shape[1] == 1 else grid).save(picture, optimize=True)
    return picture
