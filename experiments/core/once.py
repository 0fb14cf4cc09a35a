"""One run: load → quantize → score → record."""

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import nn

import zeroq
from experiments.core import record, tracker
from experiments.core.config import DataConfig, ModelConfig, RunConfig
from experiments.core.content import distances, frontier_table, record_content, write_files
from experiments.core.environment import choose_device, git_commit, versions
from experiments.core.memory import within_memory
from experiments.core.progress import progress_bar
from experiments.core.scoring import devices_beside, float_score, score, simulation
from experiments.core.sources import Dataset, check_data, load_dataset, load_network
from experiments.core.stages import Stages
from experiments.core.store import StageCache, fingerprint, locked
from zeroq.datasets.photographs import check_readable
from zeroq.errors import ZeroQError
from zeroq.images import gaussian_images
from zeroq.mixed_precision.budget import Latency
from zeroq.modules import model_device
from zeroq.networks.pretrained import PretrainedNetwork
from zeroq.pipeline import QuantizationResult, RunStage, Stage, quantize_by_method
from zeroq.quantization.affine import FLOAT_BITS
from zeroq.quantization.size import average_bits_for
from zeroq.settings import Settings

DATA_DIGITS = 20  # that a record holds


@dataclass(frozen=True)
class Skipped:
    """A run whose record is there already; ``made`` says of which versions and commit it is, if of other ones."""

    made: str


def execute(config: RunConfig, name: str, other_settings: dict[str, str]) -> record.Record | Skipped:
    """Do a run and write its record, unless the record exists already and ``force`` is off.

    ``other_settings`` is what the run was told beyond model, method, bits and seed, for its record.
    """
    runs = config.outputs / "runs"
    with locked(config.outputs / "cache", name):
        if (runs / name / "record.json").exists() and not config.force:
            return Skipped(made_otherwise(check_same_inputs(config, runs / name)))
        if config.tracker.mode == "online":
            tracker.check_login()
        with record.record_folder(runs, name) as folder, within_memory("this run"):
            content, findings = carry_out(config, other_settings, folder)
        tracker.track(config, name, runs / name, content, findings)
        return content


def carry_out(
    config: RunConfig, other_settings: dict[str, str], folder: Path
) -> tuple[record.Record, tracker.Findings]:
    """Do a run's stages and write its record into a folder; what else it found is for the tracker."""
    device = choose_device(config.device)
    # What fails at once comes before downloads, and what takes seconds before what takes minutes.
    check_data(config.data)
    if config.method.images == "real":
        check_data(config.data, train=True)
    network = load_network(config.model, config.data)
    network.module.to(device)
    dataset = load_dataset(config.data, network)
    with progress_bar("check images") as progress:
        check_readable(dataset.files, progress)
    run_stage = Stages(config.outputs / "cache", network.module)
    result = quantized(config, network, run_stage)
    check_every_layer(result)
    reference = float_score(network, dataset, run_stage)
    started = time.perf_counter()
    simulated = simulation(result.model, config.placement)
    measured = score(simulated, network, dataset, "evaluate")
    run_stage.seconds["evaluate"] = time.perf_counter() - started

    content = record_content(
        config,
        network,
        result,
        other_settings,
        distances(config, network, result, simulated),
        score=measured,
        reference=reference,
        seconds=run_stage.seconds,
        test_images=len(dataset),
        data_digest=data_digest(dataset, config.outputs / "cache"),
    )
    losses = result.report.get("distill_losses", [])
    picture = write_files(folder, config, losses, result)
    record.write_json(folder / "record.json", content)
    return content, tracker.Findings(losses, result.sensitivity, frontier_table(result), picture and picture.name)


def check_every_layer(result: QuantizationResult) -> None:
    """Raise ZeroQError where not as many layers are quantized as the plan says: a score would be of another network."""
    planned = sum(bits < FLOAT_BITS for bits in result.plan.values())
    found = result.report["quantized_weight_layers"]
    if found != planned:
        raise ZeroQError(
            f"{found} layers are quantized, and the plan has {planned}; no score is taken of such a network"
        )


def quantized(config: RunConfig, network: PretrainedNetwork, run_stage: RunStage) -> QuantizationResult:
    """The network, quantized as a run's settings say."""
    images = None
    if config.method.images == "real":
        training = load_dataset(config.data, network, train=True)
        images = training.sample(config.distill.count, seed=config.seed)
    return quantize_by_method(
        network.module,
        network.input.shape,
        config.method.build(),
        timed(settings_of(config, network.module), network, run_stage),
        distillation=config.distill.distillation(config.seed, network.input.limits),
        images=images,
        limits=network.input.limits,
        run_stage=run_stage,
    )


def settings_of(config: RunConfig, module: nn.Module) -> Settings:
    """The quantization settings; a budget in MiB becomes mean weight bits, at most those of the widest candidate."""
    bits = config.bits
    mean_bits = bits.weight
    if bits.size_mib is not None:
        mean_bits = min(average_bits_for(module, bits.size_mib), max(bits.candidates, default=0))
    return config.settings(mean_bits, devices_beside(model_device(module)))


def timed(settings: Settings, network: PretrainedNetwork, run_stage: RunStage) -> Settings:
    """The settings with the layers' times on this machine, where those are a budget."""
    if not isinstance(settings.budget, Latency):
        return settings
    how = {"placement": settings.placement, **settings.granularity, "threads": torch.get_num_threads()}

    def compute(progress: Callable[[int, int], None]) -> pandas.DataFrame:
        return zeroq.layer_times(network.module, gaussian_images(network.input.shape, 1), **how)

    stage = Stage(
        "layer_times",
        compute,
        {"network": network.module, "input_shape": network.input.shape, **how},
        pack=lambda times: times.to_dict("split"),
        unpack=lambda stored: pandas.DataFrame(**stored),
    )
    return replace(settings, budget=replace(settings.budget, times=run_stage(stage)))


def check_same_inputs(config: RunConfig, folder: Path) -> record.Record:
    """The record; raises ZeroQError for a damaged one, and for one of other weights or images than a run would use."""
    done = record.read_record(folder)
    now = inputs_of(astuple(config.model), hashable(config.data), config.outputs / "cache")
    for what, before in {"weights": done["network"], "test images": done["data_digest"]}.items():
        if now[what] != before:
            raise ZeroQError(
                f"{folder} was made with other {what}; force=true replaces it, outputs=… keeps it and starts elsewhere"
            )
    return done


def made_otherwise(done: record.Record) -> str:
    """Of which versions and commit a record is, where they are not those of now."""
    today, commit = made_now()
    other = [f"{name} {known}" for name, known in done["versions"].items() if today.get(name) != known]
    other += [f"commit {done['git_commit'][:7]}"] if done["git_commit"] and done["git_commit"] != commit else []
    return ", ".join(other)


@cache
def made_now() -> tuple[dict[str, str], str | None]:
    """Versions and commit, asked for once: a sweep that goes on may skip a thousand runs."""
    return versions(), git_commit()


def hashable(data: DataConfig) -> tuple:
    """The fields, in tuples."""
    return tuple(tuple(each) if isinstance(each, list) else each for each in astuple(data))


@cache
def inputs_of(model: tuple, data: tuple, cache_folder: Path) -> dict[str, Any]:
    """What a run starts from; kept, since a sweep that goes on asks for the same network again and again."""
    network = load_network(ModelConfig(*model), DataConfig(*data))
    return {
        "weights": fingerprint(network.module),
        "test images": data_digest(load_dataset(DataConfig(*data), network), cache_folder),
    }


def data_digest(dataset: Dataset, cache_folder: Path) -> str:
    """The first digits of a hash of the test images, of which many are read only once."""
    key = {"stage": "data", "files": dataset.digest()}
    digest, _ = StageCache(cache_folder).get(key, dataset.content_digest)
    return digest[:DATA_DIGITS]
