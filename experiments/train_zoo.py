"""Train the bundled zoo on Fashion-MNIST's training images, or on scenes of them.

    python -m experiments.train_zoo resnet18 retinanet

Every epoch ends in a checkpoint; a run that was stopped goes on from it. The finished network is scored
on the test images by this run, and its weights, their sha256, the score, the time and the
command are written side by side into zeroq/networks/weights.
"""

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from experiments.training import classifiers as classifier_training
from experiments.training import detectors as detector_training
from experiments.training.loop import Training
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.errors import ZeroQError
from zeroq.networks import zoo
from zeroq.networks.checkpoint import sha256


def start(architecture: str, data: Path, device: torch.device) -> Training:
    """The training of a network of the bundled zoo, before its first epoch."""
    specification = zoo.input_specification(architecture)
    if architecture in zoo.DETECTORS:
        recipe = detector_training.Recipe()
        return detector_training.DetectorTraining(
            architecture,
            recipe,
            device,
            training_scenes=FashionScenes(data, specification, train=True, seed=recipe.seed),
            test_scenes=FashionScenes(data, specification),
        )
    return classifier_training.ClassifierTraining(
        architecture,
        classifier_training.Recipe(),
        device,
        training_images=FashionMNIST(data, specification, train=True),
        test_images=FashionMNIST(data, specification),
    )


def train(architecture: str, *, data: Path, checkpoints: Path, weights: Path) -> dict:
    """Train, score and store one network; returns the card that is written beside its weights."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list(zoo.ARCHITECTURES)
    parser.add_argument("architectures", nargs="*", default=known, metavar="architecture", help=", ".join(known))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    arguments = parser.parse_args()
    if unknown := set(arguments.architectures) - set(known):
        parser.error(f"the bundled zoo has no {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    folders = {"data": arguments.data, "checkpoints": arguments.checkpoints, "weights": zoo.WEIGHTS}
    try:
        for architecture in arguments.architectures:
            card = train(architecture, **folders)
            score = f"{card['map']:.3f} mAP" if "map" in card else f"{card['top1']:.2f} % top-1"
            print(f"{architecture}: {score}, {card['seconds']} s on {card['device']}")
    except (ZeroQError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; start the same command again to continue after the last finished epoch")


if __name__ == "__main__":
    main()
