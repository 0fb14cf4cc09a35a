"""A run's network as a file: exported to ONNX, scored and timed in onnxruntime, and what was found in its record."""

import os
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import median

import hydra
import torch
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.core.choices import CONF, choices
from experiments.core.config import RunConfig, typed
from experiments.core.environment import choose_device
from experiments.core.memory import within_memory
from experiments.core.once import quantized
from experiments.core.record import Deployment, NamedRecord, Record, read_record, write_json
from experiments.core.scoring import Score, score, simulation
from experiments.core.sources import load_dataset, load_network
from experiments.core.stages import Stages
from experiments.core.store import fingerprint
from zeroq.errors import ZeroQError
from zeroq.evaluation.classification import Classification
from zeroq.export.onnx_file import ExportReport, export_float_onnx, export_onnx
from zeroq.export.runtime import INTEGER_CONVOLUTION, OnnxNetwork, kernels, latencies
from zeroq.images import gaussian_images

PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@within_memory("this export")
def export(folder: Path, file: Path, data_root: str | None = None) -> tuple[Record, ExportReport]:
    """Export a run, measure its file, and write the new record; the record, and the report of the file.

    Raises ZeroQError for a folder without a usable record, for a network that has other weights than the run's, and
    where the run cannot be exported.
    """
    record = read_record(folder)
    config = config_of(folder, record, data_root)
    network = load_network(config.model, config.data)
    if fingerprint(network.module) != record["network"]:
        raise ZeroQError(f"{folder} was made with other weights than {config.model.label} has now; run it again")
    network.module.to(choose_device(config.device))
    dataset = load_dataset(config.data, network)
    result = quantized(config, network, Stages(config.outputs / "cache", network.module))
    if (result.plan, result.report.get("activation_plan")) != (record["plan"], record.get("activation_plan")):
        raise ZeroQError(f"{folder} has another plan than its stages give now; run it again with force=true")
    example = gaussian_images(network.input.shape, 1)
    words = {key: str(record[key]) for key in ("run", "model", "method", "w_bits", "a_bits", "placement", "git_commit")}
    report = export_onnx(result.model, file, example, metadata=words)
    simulated = score(simulation(result.model, config.placement), network, dataset, "evaluate")
    deployed = score(OnnxNetwork(file), network, dataset, f"evaluate {file.name}")
    with tempfile.TemporaryDirectory() as scratch:
        reference = export_float_onnx(network.module.cpu(), Path(scratch) / "float.onnx", example)
        latency = {f"{threads} threads": compared(reference, file, example, threads) for threads in thread_counts()}
    record.pop("run")
    record["deployed_mib"] = report.file_mib
    record["deployed_value"] = round(deployed.value, 4)
    record["deployment"] = deployment(report, simulated, deployed, latency)
    write_json(folder / "record.json", record)
    return record, report


def config_of(folder: Path, record: NamedRecord, data_root: str | None) -> RunConfig:
    """The settings that a run was made with, and where its data are now.

    Settings that came later than the run have what its method gives them today.
    """
    try:
        text = (folder / "config.yaml").read_text()
        if "${" in text:  # what is stored is resolved; a stranger's could read the environment
            raise ZeroQError(f"{folder / 'config.yaml'} refers to other values; run it again")
        stored = OmegaConf.create(yaml.safe_load(text))
        method = [f"method={record['method']}"] if record["method"] in choices("method") else []
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            today = OmegaConf.to_container(hydra.compose("config", method))
        whole = OmegaConf.merge(today, stored, {"outputs": str(folder.parent.parent)})
        if data_root:
            whole.data.root = data_root
        return typed(whole)
    except OSError as error:
        raise ZeroQError(f"{folder / 'config.yaml'} cannot be read ({error.strerror}); run it again") from error
    except (OmegaConfBaseException, yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, ZeroQError):
            raise
        raise ZeroQError(f"{folder / 'config.yaml'} is damaged ({str(error).splitlines()[0]}); run it again") from error


def deployment(
    report: ExportReport, simulated: Score, deployed: Score, latency: dict[str, dict[str, float]]
) -> Deployment:
    """What a record keeps of an exported file."""
    convolutions = [layer for layer in report.layers if layer.kind.startswith("Conv")]
    is_classifier = isinstance(simulated, Classification)
    return {
        "simulated_value": round(simulated.value, 4),
        "agreement": round(deployed.agreement(simulated.predictions), 6) if is_classifier else None,
        "weights_mib": report.weights_mib,
        "planned_weights_mib": report.planned_weights_mib,
        "parameters_mib": report.parameters_mib,
        "graph_mib": report.graph_mib,
        "convolutions": len(convolutions),
        "integer_convolutions": kernels(report.path)[INTEGER_CONVOLUTION],
        "float_layers": len(report.float_layers),
        "latency_ms": latency,
        "versions": {package: version(package) for package in PACKAGES},
    }


def thread_counts() -> list[int]:
    """One thread and all of them."""
    return sorted({1, os.cpu_count() or 1})


def compared(reference: Path, file: Path, image: torch.Tensor, threads: int) -> dict[str, float]:
    """Median milliseconds of the float file and of the quantized one for one image, and of each turn's ratio."""
    slow, fast = latencies([reference, file], image, threads=threads)
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    return {"fp32": median(slow), "quantized": median(fast), "speedup": median(ratios)}
