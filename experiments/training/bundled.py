"""A network of the bundled zoo, from its first epoch to the card beside its weights."""

import json
import platform
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from experiments.training import classifiers, detectors
from experiments.training.loop import Training
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.errors import ZeroQError
from zeroq.networks import zoo
from zeroq.networks.download import sha256


def start(architecture: str, data: Path, device: torch.device) -> Training:
    """The training of a network of the bundled zoo, before its first epoch."""
    specification = zoo.input_specification(architecture)
    if architecture in zoo.DETECTORS:
        recipe = detectors.Recipe()
        return detectors.DetectorTraining(
            architecture,
            recipe,
            device,
            training_scenes=FashionScenes(data, specification, train=True, seed=recipe.seed),
            test_scenes=FashionScenes(data, specification),
        )
    return classifiers.ClassifierTraining(
        architecture,
        classifiers.Recipe(),
        device,
        training_images=FashionMNIST(data, specification, train=True),
        test_images=FashionMNIST(data, specification),
    )


def train(architecture: str, *, data: Path, checkpoints: Path, weights: Path) -> dict:
    """Train, score and store one network; returns the card that is written beside its weights.

    Raises ZeroQError where the folder ``checkpoints`` holds a checkpoint of another recipe or topology.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = start(architecture, data, device)
    checkpoint = checkpoints / f"{architecture}.pt"
    if checkpoint.exists():
        try:
            training.restore(torch.load(checkpoint, map_location=device, weights_only=True))
        except ZeroQError as error:
            raise ZeroQError(f"{checkpoint}: {error}") from error
    checkpoints.mkdir(parents=True, exist_ok=True)
    while training.epoch < len(training.plan):
        loss = training.run_epoch()
        done, seconds = training.epoch, training.seconds
        print(f"{architecture} epoch {done}/{len(training.plan)}: loss {loss:.4f}, {seconds:.0f} s in all", flush=True)
        torch.save(training.state(), checkpoint.with_suffix(".partial"))
        checkpoint.with_suffix(".partial").rename(checkpoint)

    network = training.network
    path = weights / f"{architecture}.safetensors"
    save_file({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}, path)
    card = {
        "architecture": architecture,
        "command": f"python -m experiments.train_zoo {architecture}",
        "sha256": sha256(path),
        "topology": zoo.topology(network),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        **training.score(),
        "recipe": asdict(training.recipe),
        "seconds": round(training.seconds),
        "device": device_name(device),
        "torch": torch.__version__,
    }
    (weights / f"{architecture}.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


def device_name(device: torch.device) -> str:
    """The graphics card's name, or the processor's architecture and the number of threads used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
