"""How the bundled classifiers are trained on Fashion-MNIST's 60,000 training images."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from experiments.training import loop as training
from zeroq.datasets.fashion_mnist import FashionMNIST
from zeroq.evaluation.classification import evaluate
from zeroq.networks import zoo


@dataclass(frozen=True)
class Phase(training.Phase):
    """A phase with mixup."""

    mixup: float  # both parameters of the Beta distribution that mixing weights are drawn from; 0 for none


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """The second phase wins back what strong augmentation costs."""

    phases: tuple[Phase, ...] = (
        Phase(15, learning_rate=0.2, mixup=0.4, contrast=0.2, brightness=0.1, noise=0.1),
        Phase(2, learning_rate=0.02, mixup=0, contrast=0.1, brightness=0.05, noise=0.05),
    )
    batch_size: int = 128
    weight_decay: float = 5e-4
    largest_shift: int = 2  # pixels of the 28 × 28 image
    seed: int = 0


class ClassifierTraining(training.Training):
    """A classifier of the bundled zoo in training."""

    def __init__(
        self,
        architecture: str,
        recipe: Recipe,
        device: torch.device,
        *,
        training_images: FashionMNIST,
        test_images: FashionMNIST,
    ):
        torch.manual_seed(recipe.seed)
        super().__init__(zoo.build(architecture), recipe, len(training_images), device)
        self.training_images, self.test_images = training_images, test_images

    def make_optimizer(self, phase: training.Phase) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            self.network.parameters(),
            phase.learning_rate,
            momentum=0.9,
            weight_decay=self.recipe.weight_decay,
            nesterov=True,
        )

    def loss(self, indices: torch.Tensor, phase: Phase) -> torch.Tensor:
        samples = self.training_images
        pixels = augment(samples.images[indices], self.recipe.largest_shift)
        images, targets = mix(samples.prepare(pixels), samples.labels[indices], phase.mixup)
        images = training.jitter(images, phase).to(self.device, memory_format=torch.channels_last)
        return functional.cross_entropy(self.network(images), targets.to(self.device))

    def score(self) -> dict[str, float]:
        found = evaluate(self.network, self.test_images.batches())
        return {"top1": round(found.top1, 2), "top5": round(found.top5, 2)}


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
