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
class Phase:
    """Epochs of one learning-rate cycle (cosine, with warm-up) and one strength of augmentation."""

    epochs: int
    learning_rate: float
    mixup: float  # both parameters of the Beta distribution that mixing weights are drawn from; 0 for none
    contrast: float  # largest relative change of an image's contrast
    brightness: float  # largest shift of an image, in standard deviations of the pixels
    noise: float  # standard deviation of Gaussian noise, in the same unit


@dataclass(frozen=True)
class Recipe:
    """Training settings. The second phase wins back what strong augmentation costs."""

    phases: tuple[Phase, ...] = (
        Phase(15, learning_rate=0.2, mixup=0.4, contrast=0.2, brightness=0.1, noise=0.1),
        Phase(2, learning_rate=0.02, mixup=0, contrast=0.1, brightness=0.05, noise=0.05),
    )
    batch_size: int = 128
    weight_decay: float = 5e-4
    largest_shift: int = 2  # pixels of the 28 × 28 image
    seed: int = 0


class Training:
    """A network in training, and where it stands; ``state`` and ``restore`` make it resumable after any epoch."""

    def __init__(self, architecture: str, recipe: Recipe, training: FashionMNIST, device: torch.device):
        torch.manual_seed(recipe.seed)
        self.recipe, self.training, self.device = recipe, training, device
        self.network = zoo.build(architecture).to(device, memory_format=torch.channels_last)
        self.epoch, self.seconds = 0, 0.0
        # One entry an epoch.
        self.plan = [phase for phase in recipe.phases for _ in range(phase.epochs)]
        self._start(recipe.phases[0])

    def _start(self, phase: Phase) -> None:
        recipe = self.recipe
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            phase.learning_rate,
            momentum=0.9,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
        steps = phase.epochs * (len(self.training) // recipe.batch_size)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, phase.learning_rate, total_steps=steps, pct_start=0.15
        )

    def run_epoch(self) -> float:
        """Train for one epoch; returns its mean loss."""
        started = time.perf_counter()
        recipe, phase = self.recipe, self.plan[self.epoch]
        if self.epoch and phase is not self.plan[self.epoch - 1]:
            self._start(phase)
        # A seed of its own for each epoch makes a resumed run equal to an uninterrupted one.
        torch.manual_seed(recipe.seed * 1000 + self.epoch)
        steps = len(self.training) // recipe.batch_size
        order = torch.randperm(len(self.training))[: steps * recipe.batch_size]
        self.network.train()
        total_loss = 0.0
        for indices in track(order.split(recipe.batch_size), f"epoch {self.epoch + 1}/{len(self.plan)}"):
            pixels = augment(self.training.images[indices], recipe.largest_shift)
            images, targets = mix(self.training.prepare(pixels), self.training.labels[indices], phase.mixup)
            images = jitter(images, phase).to(self.device, memory_format=torch.channels_last)
            loss = functional.cross_entropy(self.network(images), targets.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total_loss += loss.item()
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        return total_loss / steps

    def state(self) -> dict:
        return {
            "recipe": asdict(self.recipe),
            "topology": zoo.topology(self.network),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch": self.epoch,
            "seconds": self.seconds,
        }

    def restore(self, saved: dict) -> None:
        """Go on from a state; one of another recipe or topology is ignored."""
        if saved["recipe"] != asdict(self.recipe) or saved["topology"] != zoo.topology(self.network):
            return
        self.epoch, self.seconds = saved["epoch"], saved["seconds"]
        self._start(self.plan[self.epoch - 1])
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])


def train(architecture: str, recipe: Recipe, *, data: Path, checkpoints: Path, weights: Path) -> dict:
    """Train, score and store one network; returns the card that is written beside its weights."""
    specification = zoo.input_specification(architecture)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    training = Training(architecture, recipe, FashionMNIST(data, specification, train=True), device)
    checkpoint = checkpoints / f"{architecture}.pt"
    if checkpoint.exists():
        training.restore(torch.load(checkpoint, map_location=device, weights_only=True))
    checkpoints.mkdir(parents=True, exist_ok=True)
    while training.epoch < len(training.plan):
        loss = training.run_epoch()
        done, seconds = training.epoch, training.seconds
        print(f"{architecture} epoch {done}/{len(training.plan)}: loss {loss:.4f}, {seconds:.0f} s in all", flush=True)
        torch.save(training.state(), checkpoint.with_suffix(".partial"))
        checkpoint.with_suffix(".partial").rename(checkpoint)

    network = training.network
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
        "seconds": round(training.seconds),
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
    if not parameter:
        return images, targets
    weights = torch.distributions.Beta(parameter, parameter).sample((len(images), 1))
    partners = torch.randperm(len(images))
    mixed = torch.lerp(images[partners], images, weights.view(-1, 1, 1, 1))
    return mixed, torch.lerp(targets[partners], targets, weights)


def jitter(images: torch.Tensor, phase: Phase) -> torch.Tensor:
    """Change contrast and brightness of each image a little and add noise.

    Fashion-MNIST's background is one exact value. A network that never saw another one fails where a coarse grid
    on the image, quantized to the wide range of distilled pixels, moves it by less than a tenth.
    """
    gain, shift = torch.empty(2, len(images), 1, 1, 1).uniform_(-1, 1)
    noise = phase.noise * torch.randn_like(images)
    return images * (1 + phase.contrast * gain) + phase.brightness * shift + noise


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
