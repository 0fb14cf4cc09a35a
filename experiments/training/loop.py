"""A training run that can be stopped after any epoch: phases of one learning-rate cycle each."""

import time
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass

import torch
from rich.progress import track
from torch import nn

from zeroq.errors import ZeroQError
from zeroq.networks import zoo


@dataclass(frozen=True)
class Phase:
    """Epochs of one learning-rate cycle (cosine, with warm-up) and one strength of augmentation."""

    epochs: int
    learning_rate: float
    contrast: float  # largest relative change of an image's contrast
    brightness: float  # largest shift of an image, in standard deviations of the pixels
    noise: float  # standard deviation of Gaussian noise, in the same unit


@dataclass(frozen=True)
class Recipe:
    """What every training needs to know."""

    phases: tuple[Phase, ...]
    batch_size: int
    weight_decay: float
    seed: int


class Training(ABC):
    """A network in training, and where it stands.

    ``network`` is what is trained and stored, ``samples`` the number of training samples of an epoch. ``seconds`` is
    the time that the epochs took.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, samples: int, device: torch.device):
        self.network = network.to(device, memory_format=torch.channels_last)
        self.recipe, self.device = recipe, device
        self.samples = samples
        self.epoch, self.seconds = 0, 0.0
        # One entry an epoch.
        self.plan = [phase for phase in recipe.phases for _ in range(phase.epochs)]
        self._start(recipe.phases[0])

    @abstractmethod
    def loss(self, indices: torch.Tensor, phase: Phase) -> torch.Tensor:
        """The loss of the training samples with these numbers; the network is in training mode."""

    @abstractmethod
    def make_optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        """A fresh optimiser of all parameters."""

    @abstractmethod
    def score(self) -> dict[str, float]:
        """The network's scores on the test set, by name."""

    def run_epoch(self) -> float:
        """Train for one epoch; returns its mean loss."""
        started = time.perf_counter()
        phase, batch_size = self.plan[self.epoch], self.recipe.batch_size
        if self.epoch and phase is not self.plan[self.epoch - 1]:
            self._start(phase)
        # A seed of its own for each epoch makes a resumed run equal to an uninterrupted one.
        torch.manual_seed(self.recipe.seed * 1000 + self.epoch)
        self.network.train()
        total_loss = 0.0
        order = torch.randperm(self.samples)[: self.samples // batch_size * batch_size].split(batch_size)
        for indices in track(order, f"epoch {self.epoch + 1}/{len(self.plan)}"):
            loss = self.loss(indices, phase)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total_loss += loss.item()
        self.epoch += 1
        self.seconds += time.perf_counter() - started
        return total_loss / len(order)

    def state(self) -> dict:
        """Everything that ``restore`` needs."""
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
        """Go on from a state; raises ZeroQError for one of another recipe or topology."""
        for what, own in {"recipe": asdict(self.recipe), "topology": zoo.topology(self.network)}.items():
            if saved[what] != own:
                raise ZeroQError(f"the checkpoint stems from another {what}; move it away to train from the start")
        self.epoch, self.seconds = saved["epoch"], saved["seconds"]
        self._start(self.plan[self.epoch - 1])
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])

    def _start(self, phase: Phase) -> None:
        self.optimizer = self.make_optimizer(phase)
        steps = phase.epochs * (self.samples // self.recipe.batch_size)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, phase.learning_rate, total_steps=steps, pct_start=0.15
        )


def jitter(images: torch.Tensor, phase: Phase) -> torch.Tensor:
    """Change contrast and brightness of each image a little and add noise.

    Fashion-MNIST's background is one exact value. A network that never saw another one fails where a coarse grid
    on the image, quantized to the wide range of distilled pixels, moves it by less than a tenth. ``images`` are
    normalised.
    """
    gain, shift = torch.empty(2, len(images), 1, 1, 1).uniform_(-1, 1)
    noise = phase.noise * torch.randn_like(images)
    return images * (1 + phase.contrast * gain) + phase.brightness * shift + noise
