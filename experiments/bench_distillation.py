"""Time distill=fast against the published recipe executed as published, both with 32 images of the network's own size.

    python -m experiments.bench_distillation [network …]

Five repetitions of three embedded networks take an hour on 2 cores. The recipes take turns, so that both meet the same
load. Exits with 1 where a share is above a fifth, or a fast loss above the published one.
"""

import sys
import time
from collections.abc import Callable
from statistics import median

import pandas
import torch

from experiments.published_distillation import distill_as_published
from zeroq.images.batch_norm import batch_norm_loss
from zeroq.images.fast import distill_fast
from zeroq.networks import zoo

NETWORKS = ("resnet18", "mobilenetv2", "squeezenext")
REPETITIONS = 5
SHARE = 0.2


def timed(distil: Callable[..., torch.Tensor], network: zoo.PretrainedNetwork, seed: int) -> tuple[float, float]:
    """Seconds, and the loss of the images."""
    started = time.perf_counter()
    images = distil(network.module, network.input.shape, seed=seed)
    return time.perf_counter() - started, batch_norm_loss(network.module, images)


def compare(name: str) -> dict[str, str | bool]:
    """A row of the table: medians over the repetitions, and the smallest and largest ratio of the seconds."""
    network = zoo.load(name)
    runs = [
        (timed(distill_as_published, network, seed), timed(distill_fast, network, seed)) for seed in range(REPETITIONS)
    ]
    published, fast = zip(*runs, strict=True)
    shares = [ours[0] / theirs[0] for theirs, ours in runs]
    losses = [median(loss for _, loss in recipe) for recipe in (published, fast)]
    return {
        "Network": name,
        "Published s": f"{median(seconds for seconds, _ in published):.1f}",
        "Fast s": f"{median(seconds for seconds, _ in fast):.1f}",
        "Share of the time": f"{median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})",
        "Published loss": f"{losses[0]:.4f}",
        "Fast loss": f"{losses[1]:.4f}",
        f"At most {SHARE:g} and no higher": median(shares) <= SHARE and losses[1] <= losses[0],
    }


def main() -> None:
    table = pandas.DataFrame([compare(name) for name in sys.argv[1:] or NETWORKS])
    print(table.to_markdown(index=False, disable_numparse=True))
    sys.exit(not table.iloc[:, -1].all())


if __name__ == "__main__":
    main()
