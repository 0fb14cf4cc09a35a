"""Augmentation of the classifiers' training images does what it says."""

import torch

from experiments.training.classifiers import Phase, augment, mix
from experiments.training.loop import jitter


def test_augmentation():
    torch.manual_seed(0)
    pixels = torch.randint(0, 255, (64, 1, 28, 28), dtype=torch.uint8)
    shifted = augment(pixels, 0)
    mirrored = [torch.equal(after, before.flip(2)) for before, after in zip(pixels, shifted, strict=True)]
    same = [torch.equal(after, before) for before, after in zip(pixels, shifted, strict=True)]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    assert 16 < sum(mirrored) < 48
    images, labels = torch.rand(64, 1, 8, 8), torch.arange(64) % 10
    assert mix(images, labels, 0)[0] is images
    mixed, targets = mix(images, labels, 0.4)
    assert torch.allclose(targets.sum(1), torch.ones(64))
    assert torch.allclose(mixed.mean(), images.mean(), atol=0.02)
    still = Phase(1, learning_rate=1, mixup=0, contrast=0, brightness=0, noise=0)
    assert torch.equal(jitter(images, still), images)
