"""How the bundled detector is trained on Fashion scenes, new ones in every epoch."""

from dataclasses import dataclass

import torch
from torch import nn

from experiments.training import loop as training
from zeroq.datasets.fashion_scenes import FashionScenes
from zeroq.evaluation.detection import evaluate
from zeroq.networks import retinanet, zoo


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """Settings of the training; an epoch is ``scenes`` scenes."""

    phases: tuple[training.Phase, ...] = (
        training.Phase(20, learning_rate=0.05, contrast=0.2, brightness=0.1, noise=0.1),
        training.Phase(2, learning_rate=0.005, contrast=0.1, brightness=0.05, noise=0.05),
    )
    batch_size: int = 16
    weight_decay: float = 5e-4
    seed: int = 0
    scenes: int = 10_000
    largest_gradient: float = 1.0  # norm of all gradients together


class DetectorTraining(training.Training):
    """The bundled detector in training."""

    def __init__(
        self,
        architecture: str,
        recipe: Recipe,
        device: torch.device,
        *,
        training_scenes: FashionScenes,
        test_scenes: FashionScenes,
    ):
        torch.manual_seed(recipe.seed)
        super().__init__(zoo.build(architecture), recipe, recipe.scenes, device)
        self.training_scenes, self.test_scenes = training_scenes, test_scenes
        self.detector = retinanet.bundled_detector(self.network).to(device)

    def make_optimizer(self, phase: training.Phase) -> torch.optim.Optimizer:
        parameters = list(self.network.parameters())
        # Weight decay of SGD also bounds what no BatchNorm does: heads and the coarsest levels of the pyramid.
        optimizer = torch.optim.SGD(
            parameters, phase.learning_rate, momentum=0.9, weight_decay=self.recipe.weight_decay, nesterov=True
        )

        def clip_gradients(*_) -> None:
            nn.utils.clip_grad_norm_(parameters, self.recipe.largest_gradient)

        optimizer.register_step_pre_hook(clip_gradients)
        return optimizer

    def loss(self, indices: torch.Tensor, phase: training.Phase) -> torch.Tensor:
        first = self.epoch * self.recipe.scenes
        scenes = [self.training_scenes[first + index] for index in indices.tolist()]
        pixels = torch.stack([image for image, _ in scenes])
        deviation = retinanet.SCENES.std[0]
        images = list((deviation * training.jitter(pixels / deviation, phase)).to(self.device))
        targets = [{key: value.to(self.device) for key, value in target.items()} for _, target in scenes]
        return sum(self.detector.train()(images, targets).values())

    def score(self) -> dict[str, float]:
        found = evaluate(self.detector, self.test_scenes.batches(), self.test_scenes.annotations())
        return {"map": round(found.map, 4), "map50": round(found.map50, 4)}
