"""What a run's folder holds: the record's numbers, its tables, a picture of its images."""

import json
from dataclasses import asdict
from math import ceil
from pathlib import Path

import pandas
from omegaconf import OmegaConf
from torch import nn
from torchvision.transforms.v2.functional import to_pil_image
from torchvision.utils import make_grid

from experiments.core import record
from experiments.core.config import RunConfig
from experiments.core.environment import git_commit, versions
from experiments.core.scoring import Score, output_divergence
from experiments.core.store import fingerprint
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.distillation.batch_norm import batch_norm_loss
from zeroq.evaluation import classification
from zeroq.images import gaussian_images
from zeroq.layers import weighted_layers
from zeroq.mixed_precision.budget import Latency
from zeroq.mixed_precision.frontier import ParetoFrontier
from zeroq.modules import batch_norms, channels_last, model_device
from zeroq.networks.pretrained import PretrainedNetwork
from zeroq.pipeline import QuantizationResult
from zeroq.quantization.size import size_mib

# What float32 needs: losses and sensitivities are computed in it.
FLOAT32_DIGITS = "%.9g"
# In the picture of a record: sixteen small images, or two of 224 pixels, some 300 KB.
SHOWN_IMAGES = 16
SHOWN_PIXELS = 2**17
# What a report says of plans that not every run has.
PLANNED = ("activation_plan", "mean_activation_bits", "bops_share", "planned_ms", "grouped")
# Data whose licence (MIT) lets anyone pass them on.
FREE_DATA = (FashionMNIST.name, FashionScenes.name)


def distances(
    config: RunConfig, network: PretrainedNetwork, result: QuantizationResult, simulated: nn.Module
) -> dict[str, float | None]:
    """The BatchNorm loss of a run's images, and of as many of noise, and how far the quantized network's class scores
    are from the float one's on the images (KL in nats); None where there is nothing to measure."""
    module, images, statistics = network.module, result.images, config.distill.statistics
    found: dict[str, float | None] = dict.fromkeys(("distill_loss", "calibration_loss", "gaussian_loss", "divergence"))
    if images is None:
        return found
    shape = network.input.shape
    with channels_last(module, shape), channels_last(simulated, shape):
        found["divergence"] = output_divergence(module, simulated, images)
        if not batch_norms(module):
            return found
        noise = gaussian_images(shape, config.distill.count, seed=config.seed)
        found["calibration_loss"] = batch_norm_loss(module, images, statistics=statistics)
        found["gaussian_loss"] = batch_norm_loss(module, noise, statistics=statistics)
    if config.method.images == "distilled":
        found["distill_loss"] = found["calibration_loss"]
    return found


def record_content(
    config: RunConfig,
    network: PretrainedNetwork,
    result: QuantizationResult,
    other_settings: dict[str, str],
    measured: dict[str, float | None],
    *,
    score: Score,
    reference: Score,
    seconds: dict[str, float],
    test_images: int,
    data_digest: str,
) -> record.Record:
    """The numbers of ``record.json``; ``measured`` are the ``distances``."""
    module, report = network.module, result.report
    content: record.Record = {
        "schema": record.SCHEMA,
        "model": config.model.label,
        "dataset": config.data.name,
        "data_digest": data_digest,
        "method": config.method.name,
        "w_bits": weight_label(config, result),
        "a_bits": activation_label(config, result),
        "placement": config.placement,
        "granularity": "per_channel" if config.method.per_channel else "per_tensor",
        "rounding": result.settings.rounding,
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
        **measured,
        "seconds": {stage: round(taken, 3) for stage, taken in seconds.items()},
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
        "network": fingerprint(module),
        "images": test_images,
        "git_commit": git_commit(),
    }
    content.update({key: report[key] for key in PLANNED if key in report})
    if isinstance(score, classification.Classification):
        content["top5"] = round(score.top5, 4)
        content["agreement"] = round(score.agreement(reference.predictions), 6)
    return content


def weight_label(config: RunConfig, result: QuantizationResult) -> str:
    """``8`` for uniform widths, ``MP4`` for mixed precision of at most 4 bits on average.

    Where the budget is not of size, the mean is the plan's own.
    """
    if not config.bits.mixed:
        return str(config.bits.weight)
    own = result.report["mean_weight_bits"] if config.bits.budget else result.settings.weight_bits
    return mixed_label(own)


def activation_label(config: RunConfig, result: QuantizationResult) -> int | str:
    """8 for one width, ``MP6`` for a plan of at most 6 bits on average, as ``weight_label``."""
    if not config.bits.mixed_activations:
        return config.bits.activation
    budget = config.bits.budget
    joint = budget is not None and budget.counts_activations
    return mixed_label(result.report["mean_activation_bits"] if joint else config.bits.activation)


def mixed_label(mean_bits: float) -> str:
    """``MP4`` for at most 4 bits on average, with two digits."""
    return f"MP{ceil(100 * round(mean_bits, 6)) / 100:g}"


def frontier_table(result: QuantizationResult) -> pandas.DataFrame | None:
    """Size in bits, or what else is the budget, and sensitivity of every frontier point."""
    if (frontier := result.frontier) is None:
        return None
    is_size = isinstance(frontier, ParetoFrontier)
    budget = {"size_bits": frontier.size_bits} if is_size else {"cost": frontier.costs}
    return pandas.DataFrame({**budget, "sensitivity": frontier.sensitivities})


def write_files(folder: Path, config: RunConfig, losses: list[float], result: QuantizationResult) -> Path | None:
    """Write the record's files; returns the picture of the calibration images, if there is one.

    Real images are a data set's own, and not every data set may be passed on: only of those that may, there is one.
    """
    plain = json.loads(json.dumps(asdict(config), default=str))  # paths as words, which every YAML reader knows
    OmegaConf.save(OmegaConf.create(plain), folder / "config.yaml")
    if losses:
        loss = pandas.DataFrame({"loss": losses})
        loss.to_csv(folder / "distill_loss.csv", index_label="iteration", float_format=FLOAT32_DIGITS)
    if result.sensitivity is not None:
        result.sensitivity.to_csv(folder / "sensitivity.csv", float_format=FLOAT32_DIGITS)
    if result.activation_sensitivity is not None:
        result.activation_sensitivity.to_csv(folder / "activation_sensitivity.csv", index_label="activation")
    if isinstance(result.settings.budget, Latency):
        result.settings.budget.times.to_csv(folder / "layer_times.csv", index_label="layer")
    images = result.images
    if images is None or (config.method.images == "real" and config.data.name not in FREE_DATA):
        return None
    picture = folder / ("distilled.png" if config.method.images == "distilled" else "calibration.png")
    shown = min(SHOWN_IMAGES, max(1, SHOWN_PIXELS // images[0, 0].numel()))
    grid = make_grid(images[:shown], nrow=8, normalize=True, scale_each=True)
    # Three equal channels would triple the file.
    to_pil_image(grid[:1] if images.shape[1] == 1 else grid).save(picture, optimize=True)
    return picture
