"""Train the embedded zoo on Fashion-MNIST's 60,000 training images.

    python -m experiments.train_zoo resnet18 mobilenetv2

Every epoch ends in a checkpoint; a run that was stopped goes on from it. The finished network is scored
on the 10,000 test images by this run, and its weights, their sha256, the score, the time and the
command are written side by side into zeroq/networks/weights.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import track
from safetensors.torch import save_file
from torch.nn import functional

from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.errors import ZeroQError
from zeroq.evaluation.classification import evaluate
from zeroq.networks import zoo


@dataclass(frozen=True)
class Recipe:
    """Training settings; the learning rate follows one cosine cycle with warm-up."""

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 0.2
    weight_decay: float = 5e-4
    largest_shift: int = 2  # pixels of the 28 × 28 image
    mixup: float = 0.4  # both parameters of the Beta distribution that mixing weights are drawn from
    seed: int = 0


def train(architecture: str, recipe: Recipe, *, data: Path, checkpoints: Path, weights: Path) -> dict:
    """Train, score and store one network; returns the card that is written beside its weights."""
    torch.manual_seed(recipe.seed)
    specification = zoo.input_specification(architecture)
    training = FashionMNIST(data, specification, train=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = zoo.build(architecture).to(device, memory_format=torch.channels_last)

    steps = len(training) // recipe.batch_size
    optimizer = torch.optim.SGD(
        network.parameters(), lr=recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps, pct_start=0.15
    )

    checkpoint = checkpoints / f"{architecture}.pt"
    first_epoch, seconds = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        if saved["recipe"] == asdict(recipe) and saved["topology"] == zoo.topology(network):
            network.load_state_dict(saved["network"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            first_epoch, seconds = saved["epoch"], saved["seconds"]

    for epoch in range(first_epoch, recipe.epochs):
        started = time.perf_counter()
        # An order of its own for each epoch makes a resumed run equal to an uninterrupted one.
        torch.manual_seed(recipe.seed * 1000 + epoch)
        order = torch.randperm(len(training))[: steps * recipe.batch_size]
        network.train()
        total_loss = 0.0
        for indices in track(order.split(recipe.batch_size), f"{architecture} {epoch + 1}/{recipe.epochs}"):
            pixels = augment(training.images[indices], recipe.largest_shift)
            images, targets = mix(training.prepare(pixels), training.labels[indices], recipe.mixup)
            images = images.to(device, memory_format=torch.channels_last)
            loss = functional.cross_entropy(network(images), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item()
        seconds += time.perf_counter() - started
        print(f"{architecture} epoch {epoch + 1}: loss {total_loss / steps:.4f}, {seconds:.0f} s in all", flush=True)
        checkpoints.mkdir(parents=True, exist_ok=True)
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "recipe": asdict(recipe)}
        state |= {"schedule": schedule.state_dict(), "epoch": epoch + 1, "seconds": seconds}
        state["topology"] = zoo.topology(network)
        torch.save(state, checkpoint.with_suffix(".partial"))
        checkpoint.with_suffix(".partial").rename(checkpoint)

    score = evaluate(network, FashionMNIST(data, specification).batches())
    path = weights / f"{architecture}.safetensors"
    save_file({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}, path)
    card = {
        "architecture": architecture,
        "command": f"python -m experiments.train_zoo {architecture}",
        "sha256": zoo.sha256(path),
        "topology": zoo.topology(network),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "top1": round(score.top1, 2),
        "top5": round(score.top5, 2),
        "recipe": asdict(recipe),
        "seconds": round(seconds),
        "device": device_name(device),
        "torch": torch.__version__,
    }
    (weights / f"{architecture}.json").write_text(json.dumps(card, indent=2) + "\n")
    return card


def augment(pixels: torch.Tensor, largest_shift: int) -> torch.Tensor:
    """Mirror half of the images and shift each by a few pixels: uint8 [N, 1, H, W] → the same."""
    count, _, height, width = pixels.shape
    mirrored = torch.rand(count) < 0.5
    pixels = torch.where(mirrored.view(-1, 1, 1, 1), pixels.flip(3), pixels)
    padded = functional.pad(pixels, [largest_shift] * 4)
    top, left = torch.randint(2 * largest_shift + 1, (2, count, 1, 1))
    rows, columns = top + torch.arange(height).view(1, -1, 1), left + torch.arange(width)
    return padded[torch.arange(count).view(-1, 1, 1), 0, rows, columns].unsqueeze(1)


def mix(images: torch.Tensor, labels: torch.Tensor, parameter: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixup (Zhang et al., 2018): blend each image and its one-hot label with another one of the batch.

    Without it the last channels of a network of ten classes answer to single classes, and BatchNorm's standard
    deviations record the difference between images, which no single distilled image can show.
    """
    targets = functional.one_hot(labels, zoo.CLASSES).float()
    weights = torch.distributions.Beta(parameter, parameter).sample((len(images), 1))
    partners = torch.randperm(len(images))
    mixed = torch.lerp(images[partners], images, weights.view(-1, 1, 1, 1))
    return mixed, torch.lerp(targets[partners], targets, weights)


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
        parser.error(f"the embedded zoo has no {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    folders = {"data": arguments.data, "checkpoints": arguments.checkpoints, "weights": zoo.WEIGHTS}
    try:
        for architecture in arguments.architectures:
            card = train(architecture, Recipe(), **folders)
            print(f"{architecture}: {card['top1']:.2f} % top-1, {card['seconds']} s on {card['device']}")
    except (ZeroQError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; start the same command again to continue after the last finished epoch")


if __name__ == "__main__":
    main()
