"""Top-1 and top-5 accuracy, and the predictions they come from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from zeroq.modules import evaluating, model_device
from zeroq.parallel import all_gather


@dataclass(frozen=True)
class Classification:
    """Accuracies in percent; ``predictions`` is the top-1 class of every image, int64 [N]."""

    top1: float
    top5: float
    predictions: torch.Tensor

    metric: ClassVar = "top1"

    @property
    def value(self) -> float:
        """The headline number."""
        return self.top1

    def agreement(self, reference: torch.Tensor) -> float:
        """Share (0…1) of images whose top-1 class equals the reference predictions'."""
        return (self.predictions == reference).double().mean().item()


def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    on_batch: Callable[[int], None] = lambda images: None,
) -> Classification:
    """Score a classifier with outputs [n, classes] on (images, labels) batches.

    ``on_batch`` receives the number of images after each batch. In a process group each process scores its share of the
    batches, as the data sets give it, and receives the score of all.
    """
    device = model_device(model)
    best, expected = [], []
    with evaluating(model), torch.inference_mode():
        for images, labels in batches:
            output = model(images.to(device)).flatten(1)
            best.append(output.topk(min(5, output.shape[1])).indices)
            expected.append(labels)
            on_batch(len(labels))
    # Fetched at the end, because a host that fetches each batch's waits for the device instead of feeding it.
    ranked = torch.cat(all_gather([each.cpu() for each in best]))
    found = (ranked == torch.cat(all_gather(expected))[:, None]).double()
    return Classification(
        top1=100 * found[:, 0].mean().item(),
        top5=100 * found.sum(dim=1).mean().item(),
        predictions=ranked[:, 0],
    )
